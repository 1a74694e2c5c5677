-- A published version has been deleted: nothing of it is admitted any more, its idle environments go.
--
-- args: uid, version_key
-- result: 1, or 0 when the function is not known
-- Running invocations end as they would; complete answers 'destroy' for them. Idempotent.
local uid, version = ARGV[1], ARGV[2]
if redis.call('EXISTS', K.fn(uid)) == 0 then return 0 end
redis.call('HSET', K.fn(uid), 'gone:' .. version, '1')
retire(version)
return 1
