-- A claimed event could not be run now: back to the head of its queue, and its function waits.
--
-- args: event, controller, delay_ms
-- result: 1, or 0 when it is not this controller's claim any more
local event = ARGV[1]
if redis.call('HGET', K.event(event), 'claimed_by') ~= ARGV[2] then return 0 end
requeue(event, now_ms() + tonumber(ARGV[3]))
return 1
