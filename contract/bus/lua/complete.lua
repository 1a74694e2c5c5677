-- Ends one invocation: its slot comes back, its environment is idle again or to be destroyed, its caller is answered.
--
-- args: instance, id, outcome ('idle': the environment can serve again · 'dead': it can't), header, payload,
--       acknowledge ('1': an event is done · '0': it goes back to its queue in retry_ms), retry_ms,
--       last_inbox (id read so far)
-- result: {'idle'} · {'destroy'} (then call release) · {'ignored'} (not this instance's) · {'fenced'} · {'unknown'} (reconcile first)
-- Prevents: a late or repeated completion releasing somebody else's slot; idle tokens of stale code.
-- Idempotent by id: the tombstone keeps the first answer.
local instance, id, outcome, header, payload = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local acknowledge, retry, last_inbox = ARGV[6], tonumber(ARGV[7]), ARGV[8]
local now = now_ms()

local record = hash(K.invocation(id))
if record.worker == instance and record.state == 'done' then return {record.answer} end
local state = redis.call('HGET', K.worker(instance), 'state')
if not state or state == 'fenced' then return {standing(instance, state)} end
if record.worker ~= instance or record.state ~= 'running' then return {'ignored'} end

if last_inbox ~= '' then redis.call('XTRIM', K.inbox(instance), 'MINID', last_inbox) end
uncount(id, record)
redis.call('SREM', K.held(instance), id)
local answer = 'destroy'
if outcome == 'idle' and reusable(instance, record) then
  put_token(instance, record.version, record.memory, now)
  answer = 'idle'
else
  forget_if_none(instance, record.version, record.memory)
end
if record.event ~= '' then
  if acknowledge == '1' then
    redis.call('DEL', K.event(record.event))
  else
    retry_event(record.event, now, now + retry)
  end
else
  push_reply(record.controller, id, header, payload)
end
redis.call('DEL', K.invocation(id))
redis.call('HSET', K.invocation(id), 'state', 'done', 'worker', instance, 'start', record.start, 'answer', answer)
redis.call('PEXPIRE', K.invocation(id), TOMBSTONE_MS)
make_ready(record.uid, now)
return {answer}
