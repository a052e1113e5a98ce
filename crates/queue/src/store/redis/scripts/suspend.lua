-- Makes a suspension, or changes it.
--   ARGV[4] id, [5] destination, sender (in lower case) and tenant, a line each, [6] when it ends (0:
--   when it is resumed), [7] most suspensions, [8] the encoded suspension
-- Returns 1, or 0 if there are too many.

local id = ARGV[4]
call('ZREM', K .. 'ends', '') -- as in lease.lua
if call('HEXISTS', K .. 'suspended', id) == 0
  and call('HLEN', K .. 'suspended') >= tonumber(ARGV[7]) then
  return 0
end
end_suspension(id)
call('HSET', K .. 'suspended', id, ARGV[5])
call('HSET', K .. 'suspensions', id, ARGV[8])
if ARGV[6] ~= '0' then
  call('ZADD', K .. 'suspension-ends', ARGV[6], id)
  timer()
end
stops = nil
local dest = string.match(ARGV[5], '^[^\n]*')
if dest ~= '' then
  file(dest, oldest_ready(dest))
end
place_parked()
return 1
