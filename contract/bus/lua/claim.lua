-- Gives a controller the next due events to dispatch, functions in turn.
--
-- args: controller, max, claim_ms
-- result: a list of {event, uid, header, payload, blob, accepted_ms, attempts}
-- A claim that is not dispatched, deferred or dropped in claim_ms returns to its queue. Prevents: two controllers
-- dispatching one event; a busy function starving the others.
local controller, max, claim_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
-- With its microseconds: of functions served in one millisecond, the one served first comes first again.
local now = time[1] * 1000 + time[2] / 1000
if redis.call('EXISTS', K.reconciling) == 1 then return {} end
for _, event in ipairs(redis.call('ZRANGEBYSCORE', K.claimed, '-inf', now, 'LIMIT', 0, 64)) do
  redis.call('ZREM', K.claimed, event)
  requeue(event, math.floor(now))
end
-- A function at its limit is looked at again this much later, should no completion make it due before.
local FULL_MS = 5000
local claims, taken = {}, {}
while #claims < max do
  local due = redis.call('ZRANGEBYSCORE', K.ready, '-inf', now, 'LIMIT', 0, max)
  if #due == 0 then break end
  for _, uid in ipairs(due) do
    -- No more than its own limit has room for: complete makes the function due again.
    local reserved = tonumber(redis.call('HGET', K.fn(uid), 'reserved') or -1)
    local room = reserved < 0 or redis.call('ZCARD', K.inflight_fn(uid)) + (taken[uid] or 0) < reserved
    if not room then redis.call('ZADD', K.ready, now + FULL_MS, uid) end
    local event = room and #claims < max and redis.call('LPOP', K.queue(uid))
    if event then
      taken[uid] = (taken[uid] or 0) + 1
      local item = redis.call('HMGET', K.event(event), 'header', 'payload', 'blob', 'accepted_ms', 'attempts')
      if item[1] then
        redis.call('HSET', K.event(event), 'state', 'claimed', 'claimed_by', controller, 'attempts', item[5] + 1)
        redis.call('ZADD', K.claimed, now + claim_ms, event)
        claims[#claims + 1] = {event, uid, item[1], item[2], item[3], item[4], item[5] + 1}
      end
    end
    if redis.call('LLEN', K.queue(uid)) == 0 then
      redis.call('ZREM', K.ready, uid)
    elseif event then
      redis.call('ZADD', K.ready, now, uid)
    end
  end
end
return claims
