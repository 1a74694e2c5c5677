-- Ends the authority of an instance that is presumed dead: callers are answered and events go back to their queues at
-- once; slots and memory stay counted until its sandboxes are known to be dead (bury).
--
-- args: instance, header (the answer to callers), lease_ms (0: fence it in any case), retry_ms
-- result: how many invocations were answered or requeued; -1 when its heartbeat is younger than lease_ms, or it has yet
--         to report to a new Redis, which has not let it renew its lease
-- Prevents: callers waiting for a dead worker; a zombie completing what its successor runs. Idempotent.
local instance, header, lease, retry = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local worker = redis.call('HMGET', K.worker(instance), 'state', 'heartbeat_ms')
if not worker[1] then return 0 end
if lease > 0 and redis.call('SISMEMBER', K.reconciling, instance) == 1 then return -1 end
if lease > 0 and now - tonumber(worker[2]) <= lease then return -1 end
if worker[1] ~= 'fenced' then
  redis.call('HSET', K.worker(instance), 'state', 'fenced', 'fenced_ms', now)
end
drop_tokens(instance)
redis.call('DEL', K.inbox(instance))
redis.call('SREM', K.reconciling, instance)
local answered = 0
for _, id in ipairs(redis.call('SMEMBERS', K.held(instance))) do
  local record = hash(K.invocation(id))
  if record.state == 'running' and record.worker == instance then
    if record.event ~= '' then
      retry_event(record.event, now, now + retry)
    else
      push_reply(record.controller, id, header, '')
    end
    redis.call('HSET', K.invocation(id), 'state', 'orphaned')
    answered = answered + 1
  end
end
return answered
