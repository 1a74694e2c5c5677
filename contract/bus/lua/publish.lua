-- Makes a function's generation and limits known to admission; called before SQL reports a change as done.
--
-- args: uid, generation, reserved (-1 for none), account ('account:region'), account_limit
-- result: the generation now in force (never lower than before)
-- A newer generation tells the workers to destroy idle environments of the older head. Prevents: stale code running
-- after `Successful`. Idempotent; late repeats of an older generation change nothing but limits stay the caller's.
local uid, generation, reserved, account = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local before = redis.call('HMGET', K.fn(uid), 'generation', 'reserved')
local old_generation, old_reserved = tonumber(before[1] or 0), tonumber(before[2] or -1)
if old_generation == -1 then return -1 end
redis.call('HSET', K.account(account), 'limit', ARGV[5])
redis.call('HINCRBY', K.account(account), 'reserved_total', math.max(reserved, 0) - math.max(old_reserved, 0))
redis.call('HSET', K.fn(uid), 'generation', math.max(generation, old_generation), 'reserved', reserved, 'account', account)
if old_generation > 0 and generation > old_generation then
  retire(uid .. ':$LATEST:' .. old_generation)
end
make_ready(uid, now_ms())
return math.max(generation, old_generation)
