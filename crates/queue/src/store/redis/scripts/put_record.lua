-- Stores a record if the one that is there has the version before.
--   ARGV[4] kind, [5] key, [6] version, [7] value
-- Returns 1 if it did. A record is its version, a line feed, its value.

local kind = K .. 'records:' .. ARGV[4]
local before = call('HGET', kind, ARGV[5])
if before == ARGV[6] .. '\n' .. ARGV[7] then
  return 1 -- the answer was lost
end
local version = before and string.match(before, '^%d+') or '0'
if tonumber(version) + 1 ~= tonumber(ARGV[6]) then
  return 0
end
call('HSET', kind, ARGV[5], ARGV[6] .. '\n' .. ARGV[7])
call('SPUBLISH', K .. 'wake', 'records')
return 1
