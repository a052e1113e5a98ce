-- Ends a suspension.
--   ARGV[4] id
-- Returns whether there was one.

call('ZREM', K .. 'ends', '') -- as in lease.lua
local found = end_suspension(ARGV[4])
place_parked()
return found and 1 or 0
