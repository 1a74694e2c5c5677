-- Moves an invocation that no runtime has seen yet to another worker, a bounded number of times.
--
-- args: instance, id, header, payload, launch, lease_ms, max_moves
-- result: {'moved', instance} · {'exhausted'} (the caller completes it as failed) · {'ignored'} · {'fenced'} · {'unknown'} (reconcile first)
-- Its reservation here stays until `release`; its slot moves with it. Prevents: a broken engine, being the emptiest,
-- swallowing everything. Not idempotent after a move, and need not be: then the record is another worker's ('ignored').
local instance, id, header, payload, launch = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lease, max_moves = tonumber(ARGV[6]), tonumber(ARGV[7])
local now = now_ms()
local state = redis.call('HGET', K.worker(instance), 'state')
if not state or state == 'fenced' then return {standing(instance, state)} end
local record = hash(K.invocation(id))
if record.worker ~= instance or record.state ~= 'running' then return {'ignored'} end
if tonumber(record.moves) >= max_moves then return {'exhausted'} end

local target, most = nil, -1
for _, candidate in ipairs(redis.call('SMEMBERS', K.workers)) do
  local worker = redis.call('HMGET', K.worker(candidate), 'state', 'heartbeat_ms', 'engine', 'placeable')
  if candidate ~= instance and worker[1] == 'live' and worker[4] == '1' and now - tonumber(worker[2]) <= lease then
    local engine = redis.call('HMGET', K.engine(worker[3]), 'total_mb', 'reserved_mb')
    local free = tonumber(engine[1]) - tonumber(engine[2] or 0)
    -- One that had it before and has not released its reservation would mistake this one for that.
    local had = redis.call('HEXISTS', K.reserved(candidate), id) == 1
    if not had and free >= tonumber(record.memory) and free > most then target, most = candidate, free end
  end
end
if not target then return {'exhausted'} end
redis.call('SREM', K.held(instance), id)
redis.call('SADD', K.held(target), id)
reserve(target, id, record.memory)
redis.call('HSET', K.invocation(id), 'worker', target, 'start', 'cold', 'moves', record.moves + 1)
redis.call('XADD', K.inbox(target), '*', 't', 'invoke', 'i', id, 's', 'cold', 'o', record.pool,
  'h', header, 'p', payload, 'l', launch)
return {'moved', target}
