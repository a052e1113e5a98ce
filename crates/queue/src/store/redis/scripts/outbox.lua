-- Reads what has been left in the outbox. Changes nothing.
--   ARGV[4] for how long, in microseconds, [5] most parts, [6] with so many left out, [7...] and those for these
--   partitions
-- Returns microseconds until something else may have been left, or nil if nothing else is there; with how many left
-- out to go on, or nil at the end; then for each part its name, <queue id>.<partition>, and the list of arguments of
-- accept.lua.

local function to(name)
  return string.match(name, '%.(%d+)$')
end

local left, go_on = left_behind(K .. 'outbox', tonumber(ARGV[6]), now - ARGV[4], tonumber(ARGV[5]), 7, to)
local parts = { call('EXISTS', K .. 'outbox') == 1 and us(ARGV[4] / 2), go_on and us(go_on) or false }
for _, name in ipairs(left) do
  parts[#parts + 1] = { name, call('LRANGE', K .. 'o:' .. name, 0, -1) }
end
return parts
