-- A claimed event will never run (its function is gone, or it is too old): it ends here.
--
-- args: event, controller
-- result: 1, or 0 when it is not this controller's claim any more
local event = ARGV[1]
if redis.call('HGET', K.event(event), 'claimed_by') ~= ARGV[2] then return 0 end
redis.call('ZREM', K.claimed, event)
redis.call('DEL', K.event(event))
return 1
