-- The memory of an environment whose sandbox is known to be gone comes back.
--
-- args: instance, environment ids…
-- result: how many were still reserved
-- Idempotent by environment id.
local released = 0
for i = 2, #ARGV do released = released + unreserve(ARGV[1], ARGV[i]) end
return released
