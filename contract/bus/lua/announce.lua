-- Says where a controller's side door is, and learns the token by which workers open all side doors of the cell.
--
-- args: address, lifetime_ms (0: the address is gone), token (a random one, taken when the cell has none)
-- result: the cell's token
-- Prevents: controllers that begin together with two tokens: the first one's stays, and each learns it here.
local now = now_ms()
if ARGV[2] == '0' then
  redis.call('ZREM', K.doors, ARGV[1])
else
  redis.call('ZADD', K.doors, now + ARGV[2], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', K.doors, '-inf', now)
redis.call('SET', K.door_token, ARGV[3], 'NX')
redis.call('PEXPIRE', K.doors, REPLY_MS)
redis.call('PEXPIRE', K.door_token, REPLY_MS)
return redis.call('GET', K.door_token)
