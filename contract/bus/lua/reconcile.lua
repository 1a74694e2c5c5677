-- Replaces Redis's view of one instance by what the instance itself knows.
--
-- args: instance, engine, epoch, total_mb, info, held (JSON: {id: {uid, pool, controller, version, generation, memory,
--       event, start}}), idle (JSON: {version: {count, memory}}), reserved (JSON: {environment: memory}),
--       last_inbox (stream id read so far), header (the answer to callers whose invocation is not held)
-- result: 'live' · 'fenced'
-- Prevents: acknowledged writes lost, tokens for busy environments, replies that never come. Idempotent.
local instance, engine, epoch = ARGV[1], ARGV[2], tonumber(ARGV[3])
local held, idle, reserved = cjson.decode(ARGV[6]), cjson.decode(ARGV[7]), cjson.decode(ARGV[8])
local now = now_ms()
local name = string.match(instance, '^(.*)@%d+$')
if redis.call('HGET', K.worker(instance), 'state') == 'fenced' then return 'fenced' end
if tonumber(redis.call('GET', K.epoch(name)) or 0) > epoch then return 'fenced' end
redis.call('SET', K.epoch(name), epoch)

redis.call('HSET', K.worker(instance), 'engine', engine, 'epoch', epoch, 'state', 'live', 'placeable', '1',
  'heartbeat_ms', now, 'info', ARGV[5])
redis.call('SADD', K.workers, instance)
redis.call('HSET', K.engine(engine), 'total_mb', ARGV[4])
redis.call('HSETNX', K.engine(engine), 'reserved_mb', 0)
drop_tokens(instance)
unreserve_all(instance)

-- What it has not read yet it will still do: run what it was given, with the idle environments that were taken for that.
local unread = {}
local function spend(version)
  if idle[version] then idle[version].count = idle[version].count - 1 end
end
local last = ARGV[9] ~= '' and '(' .. ARGV[9] or '-'
for _, entry in ipairs(redis.call('XRANGE', K.inbox(instance), last, '+')) do
  local message = {}
  for i = 1, #entry[2], 2 do message[entry[2][i]] = entry[2][i + 1] end
  if message.t == 'invoke' then
    unread[message.i] = true
    if message.s == 'warm' then spend(redis.call('HGET', K.invocation(message.i), 'version')) end
    for version in string.gmatch(message.e or '', '[^\n]+') do spend(version) end
  elseif message.t == 'retire' then
    idle[message.v] = nil
  elseif message.t == 'forget' then
    for version in pairs(idle) do
      if is_of_function(version, message.v) then idle[version] = nil end
    end
  end
end
-- What Redis thinks that it holds, and it does not, has ended: only the completion was lost with the server.
for _, id in ipairs(redis.call('SMEMBERS', K.held(instance))) do
  local record = hash(K.invocation(id))
  local is_its_own = record.worker == instance and record.state == 'running'
  if is_its_own and unread[id] then
    if record.start == 'cold' then reserved[id] = tonumber(record.memory) end
  elseif not is_its_own then
    redis.call('SREM', K.held(instance), id)
  elseif not held[id] then
    uncount(id, record)
    redis.call('SREM', K.held(instance), id)
    redis.call('DEL', K.invocation(id))
    if record.event ~= '' then requeue(record.event, now) else push_reply(record.controller, id, ARGV[10], '') end
    make_ready(record.uid, now)
  end
end
for id, record in pairs(held) do
  if redis.call('HGET', K.invocation(id), 'state') ~= 'done' then
    redis.call('ZADD', K.inflight_fn(record.uid), 'NX', now, id)
    if record.pool ~= '' then redis.call('ZADD', K.inflight_pool(record.pool), 'NX', now, id) end
    redis.call('HSET', K.invocation(id), 'worker', instance, 'start', record.start, 'uid', record.uid,
      'pool', record.pool, 'controller', record.controller, 'version', record.version,
      'generation', record.generation, 'memory', record.memory, 'event', record.event, 'moves', 0, 'state', 'running')
    redis.call('PEXPIRE', K.invocation(id), RECORD_MS)
    redis.call('SADD', K.held(instance), id)
    -- Redis may have lost that its event had been dispatched, and have it in the queue again.
    local event_state = record.event ~= '' and redis.call('HGET', K.event(record.event), 'state')
    if event_state then
      if event_state == 'queued' then redis.call('LREM', K.queue(record.uid), 1, record.event) end
      redis.call('ZREM', K.claimed, record.event)
      redis.call('HSET', K.event(record.event), 'state', 'running', 'claimed_by', '')
    end
  end
end
for version, tokens in pairs(idle) do
  -- The message that the head has moved on may have been lost too.
  local uid, generation = string.match(version, '^(.+):%$LATEST:(%d+)$')
  local head = uid and redis.call('HGET', K.fn(uid), 'generation')
  if head and tonumber(head) ~= tonumber(generation) then
    redis.call('XADD', K.inbox(instance), '*', 't', 'retire', 'v', version)
  else
    for _ = 1, tokens.count do put_token(instance, version, tokens.memory, now) end
  end
end
for environment, memory in pairs(reserved) do reserve(instance, environment, memory) end
redis.call('SREM', K.reconciling, instance)
return 'live'
