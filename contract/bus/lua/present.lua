-- Says that a controller serves (or, with a lifetime of 0, that it does no longer), and forgets who has fallen silent.
--
-- args: controller (JSON, the same each time), lifetime_ms
-- result: the controllers that serve
-- Prevents: a controller that dies between its entry and the entry's expiry, and is told of for ever.
local now = now_ms()
if ARGV[2] == '0' then
  redis.call('ZREM', K.controllers, ARGV[1])
else
  redis.call('ZADD', K.controllers, now + ARGV[2], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', K.controllers, '-inf', now)
redis.call('PEXPIRE', K.controllers, REPLY_MS)
return redis.call('ZRANGE', K.controllers, 0, -1)
