-- Shared by every script: key names (see contract/keys.py) and the few steps that more than one script takes.
local P = KEYS[1]
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local K = {
  generation = P .. 'generation', reconciling = P .. 'reconciling', workers = P .. 'workers',
  ready = P .. 'events:ready', claimed = P .. 'events:claimed', wake = P .. 'events:wake',
  controllers = P .. 'controllers', doors = P .. 'doors', door_token = P .. 'door-token',
}
function K.worker(i) return P .. 'worker:' .. i end
function K.epoch(w) return P .. 'epoch:' .. w end
function K.engine(e) return P .. 'engine:' .. e end
function K.fn(u) return P .. 'function:' .. u end
function K.account(a) return P .. 'account:' .. a end
function K.idle(v) return P .. 'idle:' .. v end
function K.lru(i) return P .. 'lru:' .. i end
function K.reserved(i) return P .. 'reserved:' .. i end
function K.held(i) return P .. 'held:' .. i end
function K.inflight_fn(u) return P .. 'inflight:function:' .. u end
function K.inflight_pool(a) return P .. 'inflight:unreserved:' .. a end
function K.invocation(r) return P .. 'invocation:' .. r end
function K.inbox(i) return P .. 'inbox:' .. i end
function K.reply(c) return P .. 'reply:' .. c end
function K.event(e) return P .. 'event:' .. e end
function K.queue(u) return P .. 'events:queue:' .. u end

-- A finished invocation answers a repeated script for this long; longer than any process retries one.
local TOMBSTONE_MS = 60000
-- Backstop for records of invocations: longer than the longest function (900 s) with its start and recovery.
local RECORD_MS = 7200000
-- A controller's replies, a wake-up list, the doors and the controllers do not outlive their readers by more than this.
local REPLY_MS = 3600000

local function hash(key)
  local flat, map = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local function wake()
  redis.call('LPUSH', K.wake, '1')
  redis.call('LTRIM', K.wake, 0, 15)
  redis.call('PEXPIRE', K.wake, REPLY_MS)
end

-- A function with queued events is due now (or at `at`, when that is sooner than what was planned).
local function make_ready(uid, at)
  if redis.call('LLEN', K.queue(uid)) == 0 then return end
  local planned = redis.call('ZSCORE', K.ready, uid)
  if not planned or tonumber(planned) > at then
    redis.call('ZADD', K.ready, at, uid)
    wake()
  end
end

local function push_reply(controller, id, header, payload)
  local key = K.reply(controller)
  redis.call('XADD', key, '*', 'i', id, 'h', header, 'p', payload)
  redis.call('PEXPIRE', key, REPLY_MS)
end

local function uncount(id, record)
  redis.call('ZREM', K.inflight_fn(record.uid), id)
  if record.pool ~= '' then redis.call('ZREM', K.inflight_pool(record.pool), id) end
end

-- Field of `reserved:{instance}`: minus the memory of evicted environments that are not gone yet. It has been promised
-- to those that they make room for, and is not to be promised, or made room for, again.
local EVICTING = '-'

local function reserve(instance, environment, mb)
  redis.call('HINCRBY', K.reserved(instance), environment, mb)
  local engine = redis.call('HGET', K.worker(instance), 'engine')
  if engine then redis.call('HINCRBY', K.engine(engine), 'reserved_mb', mb) end
end

-- Memory that an environment held comes back, once; first to those that something has been evicted for.
local function unreserve(instance, environment)
  local mb = tonumber(redis.call('HGET', K.reserved(instance), environment) or 0)
  if redis.call('HDEL', K.reserved(instance), environment) == 0 then return 0 end
  local evicting = -tonumber(redis.call('HGET', K.reserved(instance), EVICTING) or 0)
  local settled = math.min(mb, evicting)
  if settled > 0 then
    if settled == evicting then
      redis.call('HDEL', K.reserved(instance), EVICTING)
    else
      redis.call('HINCRBY', K.reserved(instance), EVICTING, settled)
    end
  end
  local engine = redis.call('HGET', K.worker(instance), 'engine')
  if engine then redis.call('HINCRBY', K.engine(engine), 'reserved_mb', math.max(settled, 0) - mb) end
  return 1
end

-- All memory of an instance comes back.
local function unreserve_all(instance)
  local sum = 0
  for _, mb in ipairs(redis.call('HVALS', K.reserved(instance))) do sum = sum + tonumber(mb) end
  redis.call('DEL', K.reserved(instance))
  local engine = redis.call('HGET', K.worker(instance), 'engine')
  if engine then redis.call('HINCRBY', K.engine(engine), 'reserved_mb', 0 - sum) end
end

-- An instance that is over does not come back by reconciling, even once nothing is known of it any more.
local function end_epoch(instance)
  local name, epoch = string.match(instance, '^(.*)@(%d+)$')
  if name and tonumber(redis.call('GET', K.epoch(name)) or 0) <= tonumber(epoch) then
    redis.call('SET', K.epoch(name), epoch + 1)
  end
end

-- A version without idle tokens of an instance is not to be looked at when something must be evicted.
local function forget_if_none(instance, version, memory)
  if not redis.call('LPOS', K.idle(version), instance) then
    redis.call('ZREM', K.lru(instance), memory .. ' ' .. version)
  end
end

-- Takes one idle token of a version from an instance, the least recently used one. 1 if there was one.
local function take_token(instance, version, memory)
  local taken = redis.call('LREM', K.idle(version), -1, instance)
  forget_if_none(instance, version, memory)
  return taken
end

-- All idle tokens that an instance has of the versions for which `is_meant` holds go.
local function take_tokens(instance, is_meant)
  for _, member in ipairs(redis.call('ZRANGE', K.lru(instance), 0, -1)) do
    local version = string.match(member, '^%d+ (.+)$')
    if is_meant(version) then
      redis.call('LREM', K.idle(version), 0, instance)
      redis.call('ZREM', K.lru(instance), member)
    end
  end
end

local function put_token(instance, version, memory, now)
  redis.call('LPUSH', K.idle(version), instance)
  redis.call('ZADD', K.lru(instance), now, memory .. ' ' .. version)
end

local function drop_tokens(instance)
  take_tokens(instance, function() return true end)
end

local function is_of_function(version, uid) return string.sub(version, 1, #uid + 1) == uid .. ':' end

-- Every worker destroys its idle environments of a version, whose tokens go now.
local function retire(version)
  for _, instance in ipairs(redis.call('SMEMBERS', K.workers)) do
    if redis.call('HGET', K.worker(instance), 'state') ~= 'fenced' then
      take_tokens(instance, function(each) return each == version end)
      redis.call('XADD', K.inbox(instance), '*', 't', 'retire', 'v', version)
    end
  end
end

-- What an instance without authority is told: it is over, or Redis has lost it and it should reconcile.
local function standing(instance, state)
  local name, epoch = string.match(instance, '^(.*)@(%d+)$')
  if state or tonumber(redis.call('GET', K.epoch(name)) or 0) > tonumber(epoch) then return 'fenced' end
  return 'unknown'
end

-- An environment of this version may take another event: its function still has this version, its worker still serves.
local function reusable(instance, record)
  if redis.call('HGET', K.worker(instance), 'state') ~= 'live' then return false end
  local head = redis.call('HMGET', K.fn(record.uid), 'generation', 'gone:' .. record.version)
  local generation = tonumber(head[1] or record.generation)
  if generation == -1 or head[2] then return false end
  local latest = string.find(record.version, ':$LATEST:', 1, true)
  return not latest or generation == tonumber(record.generation)
end

-- An event goes back to the head of its queue (it has been there the longest), and its function is tried at `at`.
-- Nobody's claim of it holds any more.
local function requeue(event, at)
  local uid, state = unpack(redis.call('HMGET', K.event(event), 'uid', 'state'))
  if not uid then return end
  redis.call('ZREM', K.claimed, event)
  if state ~= 'queued' then
    redis.call('HSET', K.event(event), 'state', 'queued', 'claimed_by', '')
    redis.call('LPUSH', K.queue(uid), event)
  end
  redis.call('ZADD', K.ready, at, uid)
  wake()
end

-- An event is to be tried again at `at`; the others of its function do not wait for it. Until then it is nobody's claim.
local function retry_event(event, now, at)
  if at <= now then return requeue(event, now) end
  if redis.call('EXISTS', K.event(event)) == 0 then return end
  redis.call('HSET', K.event(event), 'state', 'delayed', 'claimed_by', '')
  redis.call('ZADD', K.claimed, at, event)
end
