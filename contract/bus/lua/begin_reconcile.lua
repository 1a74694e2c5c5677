-- Notices that the Redis server is not the one that all parts have agreed on: it restarted, failed over or lost data.
--
-- args: run_id, pause_ms
-- result: 1 when this call began a reconciliation, 0 when there is nothing to do or it has begun already
-- Dispatch pauses until every worker has replaced Redis's view of itself, the heads of the functions have been
-- published again, or the pause is over. '*' stands for workers that this Redis has never heard of, and stays for all of it
-- when there are none known.
local run_id, pause = ARGV[1], ARGV[2]
if redis.call('GET', K.generation) == run_id then return 0 end
redis.call('SET', K.generation, run_id)
redis.call('DEL', K.reconciling)
local known = 0
for _, instance in ipairs(redis.call('SMEMBERS', K.workers)) do
  if redis.call('HGET', K.worker(instance), 'state') ~= 'fenced' then
    redis.call('SADD', K.reconciling, instance)
    known = known + 1
  end
end
if known == 0 then redis.call('SADD', K.reconciling, '*') end
redis.call('SADD', K.reconciling, 'heads')
redis.call('PEXPIRE', K.reconciling, pause)
return 1
