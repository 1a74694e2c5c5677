-- Says that an instance is alive, and learns what the cell thinks of it.
--
-- args: instance, placeable ('0' or '1'), draining ('0' or '1'), info (JSON)
-- result: 'live' · 'draining' · 'fenced' · 'unknown' (Redis has lost it: reconcile)
local instance = ARGV[1]
local state = redis.call('HGET', K.worker(instance), 'state')
if not state then return 'unknown' end
if state == 'fenced' then return state end
if ARGV[3] == '1' then state = 'draining' end
redis.call('HSET', K.worker(instance), 'heartbeat_ms', now_ms(), 'placeable', ARGV[2], 'state', state, 'info', ARGV[4])
return state
