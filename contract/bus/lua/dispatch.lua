-- Admits one invocation and gives it to a worker, or says why not.
--
-- args: id, uid, generation, version_key, memory_mb, controller, header, payload, launch, event (or ''),
--       last_reply (stream id up to which this controller has read its replies), lease_ms, residency_ms
-- result: {'dispatched', instance, 'warm'|'cold'} · {'paused'} · {'unknown'} · {'stale'} · {'throttled', reason}
--         · {'full'} · {'no_workers'} · {'gone'} (the event is no longer this caller's to run)
-- Prevents: two callers taking the last slot; an environment given twice; memory promised twice.
-- Idempotent by id: a repeated call answers as the first one did.
local id, uid, generation, version = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local memory, controller, header, payload, launch = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local event, last_reply, lease, residency = ARGV[10], ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13])
local now = now_ms()

local before = redis.call('HMGET', K.invocation(id), 'worker', 'start')
if before[1] then return {'dispatched', before[1], before[2]} end
if redis.call('EXISTS', K.reconciling) == 1 then return {'paused'} end
if last_reply ~= '' then redis.call('XTRIM', K.reply(controller), 'MINID', last_reply) end

local head = redis.call('HMGET', K.fn(uid), 'generation', 'reserved', 'account', 'gone:' .. version)
if not head[1] then return {'unknown'} end
if tonumber(head[1]) ~= generation or head[4] then return {'stale'} end
if event ~= '' and redis.call('HGET', K.event(event), 'claimed_by') ~= controller then return {'gone'} end

-- 1. Limits: the function's own guarantee, else the account's pool less everybody's guarantees.
local reserved, account, pool = tonumber(head[2]), head[3], ''
if reserved >= 0 then
  if redis.call('ZCARD', K.inflight_fn(uid)) >= reserved then
    return {'throttled', 'ReservedFunctionConcurrentInvocationLimitExceeded'}
  end
else
  pool = account
  local limits = redis.call('HMGET', K.account(account), 'limit', 'reserved_total')
  local free = tonumber(limits[1] or 0) - tonumber(limits[2] or 0)
  if redis.call('ZCARD', K.inflight_pool(pool)) >= free then
    return {'throttled', 'ConcurrentInvocationLimitExceeded'}
  end
end

-- 2. An idle environment, most recently used first.
local function usable(worker)
  return worker[1] == 'live' and worker[2] and now - tonumber(worker[2]) <= lease
end
local instance, start, evict, age = nil, 'warm', {}, 0
local at = 0
while not instance do
  local candidate = redis.call('LINDEX', K.idle(version), at)
  if not candidate then break end
  if usable(redis.call('HMGET', K.worker(candidate), 'state', 'heartbeat_ms')) then
    redis.call('LREM', K.idle(version), 1, candidate)
    instance = candidate
  end
  at = at + 1
end

-- 3. Memory: the worker with most of it free, and of several on one engine the one with the fewest environments; else
-- the one where the fewest, oldest idle environments make room.
if not instance then
  start = 'cold'
  local most, fewest, seen, fallback = -1, 0, false, {}
  for _, candidate in ipairs(redis.call('SMEMBERS', K.workers)) do
    local worker = redis.call('HMGET', K.worker(candidate), 'state', 'heartbeat_ms', 'engine', 'placeable')
    if usable(worker) then
      seen = true
      if worker[4] == '1' then
        local engine = redis.call('HMGET', K.engine(worker[3]), 'total_mb', 'reserved_mb')
        local free = tonumber(engine[1]) - tonumber(engine[2] or 0)
        local size = redis.call('HLEN', K.reserved(candidate))
        if free >= memory and (free > most or (free == most and size < fewest)) then
          instance, most, fewest = candidate, free, size
        end
        fallback[#fallback + 1] = {candidate, free}
      end
    end
  end
  if not seen or #fallback == 0 then return {'no_workers'} end
  if not instance then
    for _, option in ipairs(fallback) do
      local candidate, free, plan, youngest = option[1], option[2], {}, 0
      local aged = redis.call('ZRANGEBYSCORE', K.lru(candidate), '-inf', now - residency, 'WITHSCORES')
      for i = 1, #aged, 2 do
        if free >= memory then break end
        local each, other = string.match(aged[i], '^(%d+) (.+)$')
        for _, owner in ipairs(redis.call('LRANGE', K.idle(other), 0, -1)) do
          if owner == candidate and free < memory then
            plan[#plan + 1] = {other, tonumber(each)}
            free, youngest = free + tonumber(each), tonumber(aged[i + 1])
          end
        end
      end
      -- Those that a larger one, added later, has made superfluous stay.
      for i = #plan, 1, -1 do
        if free - plan[i][2] >= memory then free = free - table.remove(plan, i)[2] end
      end
      if free >= memory and (not instance or #plan < #evict or (#plan == #evict and youngest < age)) then
        instance, evict, age = candidate, plan, youngest
      end
    end
  end
  if not instance then return {'full'} end
  for index, step in ipairs(evict) do
    take_token(instance, step[1], step[2])
    reserve(instance, EVICTING, -step[2])
    evict[index] = step[1]
  end
  reserve(instance, id, memory)
end

-- 4. Count, record, push.
redis.call('ZADD', K.inflight_fn(uid), now, id)
if pool ~= '' then redis.call('ZADD', K.inflight_pool(pool), now, id) end
redis.call('HSET', K.invocation(id), 'worker', instance, 'start', start, 'uid', uid, 'pool', pool,
  'controller', controller, 'version', version, 'generation', generation, 'memory', memory, 'event', event,
  'moves', 0, 'state', 'running')
redis.call('PEXPIRE', K.invocation(id), RECORD_MS)
redis.call('SADD', K.held(instance), id)
if event ~= '' then
  redis.call('ZREM', K.claimed, event)
  redis.call('HSET', K.event(event), 'state', 'running', 'claimed_by', '')
end
local message = {'t', 'invoke', 'i', id, 's', start, 'o', pool, 'h', header, 'p', payload}
if start == 'cold' then
  message[#message + 1] = 'l'
  message[#message + 1] = launch
  if #evict > 0 then
    message[#message + 1] = 'e'
    message[#message + 1] = table.concat(evict, '\n')
  end
end
redis.call('XADD', K.inbox(instance), '*', unpack(message))
return {'dispatched', instance, start}
