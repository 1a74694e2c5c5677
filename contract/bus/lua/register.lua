-- Begins a new life of a worker: a new epoch, hence a new instance; earlier lives of the name are to be fenced.
--
-- args: worker, engine, total_mb, info (JSON)
-- result: {instance, epoch, predecessors…} (instances of the same name that still own something)
-- The memory of the engine is shared by all its workers; the last one to register states its size.
local name, engine = ARGV[1], ARGV[2]
local epoch = redis.call('INCR', K.epoch(name))
local instance = name .. '@' .. epoch
redis.call('HSET', K.worker(instance), 'engine', engine, 'epoch', epoch, 'state', 'live', 'placeable', '1',
  'heartbeat_ms', now_ms(), 'info', ARGV[4])
redis.call('SADD', K.workers, instance)
redis.call('HSET', K.engine(engine), 'total_mb', ARGV[3])
redis.call('HSETNX', K.engine(engine), 'reserved_mb', 0)
local answer = {instance, tostring(epoch)}
for _, other in ipairs(redis.call('SMEMBERS', K.workers)) do
  if other ~= instance and string.match(other, '^(.*)@%d+$') == name then answer[#answer + 1] = other end
end
return answer
