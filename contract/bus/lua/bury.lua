-- Forgets a fenced instance whose sandboxes are all known to be dead: its slots and memory come back.
--
-- args: instance, min_age_ms (only if it was fenced at least this long ago)
-- result: 1, or 0 when it is not fenced, too young or unknown
-- It can't come back after that: its epoch is over. Prevents: counts below the truth while a zombie's sandboxes still run. Idempotent.
local instance = ARGV[1]
local now = now_ms()
local worker = redis.call('HMGET', K.worker(instance), 'state', 'fenced_ms', 'engine')
if worker[1] ~= 'fenced' or now - tonumber(worker[2]) < tonumber(ARGV[2]) then return 0 end
for _, id in ipairs(redis.call('SMEMBERS', K.held(instance))) do
  local record = hash(K.invocation(id))
  if record.uid then
    uncount(id, record)
    redis.call('PEXPIRE', K.invocation(id), TOMBSTONE_MS)
    make_ready(record.uid, now)
  end
end
unreserve_all(instance)
redis.call('DEL', K.held(instance), K.lru(instance), K.inbox(instance), K.worker(instance))
redis.call('SREM', K.workers, instance)
end_epoch(instance)
return 1
