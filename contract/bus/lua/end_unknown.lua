-- Ends a life that Redis knows nothing of: it was buried, or lost with an earlier Redis and has not reported since.
--
-- args: instance
-- result: 1, or 0 when it is known, and so not to be ended like this
-- Prevents: an instance whose sandboxes are being removed coming back by reconciling. Idempotent.
if redis.call('EXISTS', K.worker(ARGV[1])) == 1 then return 0 end
end_epoch(ARGV[1])
return 1
