-- Accepts one asynchronous event.
--
-- args: event, uid, header (JSON: what to invoke), payload, blob (digest of the payload in the blob store, or '')
-- result: 1 (0 when it is there already: idempotent by event id)
-- The caller then makes sure that it is on disk (WAITAOF, or a server that always syncs) before it answers 202.
local event, uid = ARGV[1], ARGV[2]
if redis.call('EXISTS', K.event(event)) == 1 then return 0 end
local now = now_ms()
redis.call('HSET', K.event(event), 'uid', uid, 'header', ARGV[3], 'payload', ARGV[4], 'blob', ARGV[5],
  'accepted_ms', now, 'attempts', 0, 'state', 'queued', 'claimed_by', '')
redis.call('RPUSH', K.queue(uid), event)
make_ready(uid, now)
return 1
