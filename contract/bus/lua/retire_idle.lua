-- Takes back one idle environment of a version from an instance, so that it may be destroyed.
--
-- args: instance, version_key, memory_mb
-- result: 1, or 0 when there is none: it has just been given to an invocation
-- Prevents: reaping an environment that is about to get work.
return take_token(ARGV[1], ARGV[2], ARGV[3])
