-- A function has been deleted: nothing of it is admitted any more, its idle environments go, its queued events go.
--
-- args: uid, keep_ms (how long the tombstone refuses stale callers)
-- result: number of queued events dropped
-- Running invocations end as they would; complete answers 'destroy' for them. Idempotent.
local uid = ARGV[1]
local head = hash(K.fn(uid))
if head.account and head.generation ~= '-1' then
  redis.call('HINCRBY', K.account(head.account), 'reserved_total', 0 - math.max(tonumber(head.reserved), 0))
  redis.call('HSET', K.fn(uid), 'generation', -1, 'reserved', -1, 'account', head.account)
  redis.call('PEXPIRE', K.fn(uid), ARGV[2])
  for _, instance in ipairs(redis.call('SMEMBERS', K.workers)) do
    if redis.call('HGET', K.worker(instance), 'state') ~= 'fenced' then
      take_tokens(instance, function(version) return is_of_function(version, uid) end)
      redis.call('XADD', K.inbox(instance), '*', 't', 'forget', 'v', uid)
    end
  end
end
local events = redis.call('LRANGE', K.queue(uid), 0, -1)
for _, event in ipairs(events) do redis.call('DEL', K.event(event)) end
redis.call('DEL', K.queue(uid))
redis.call('ZREM', K.ready, uid)
return #events
