-- Which messages of a Message-ID are still known, newest first.
--   ARGV[2] Message-ID, [3] most

local known = {}
for _, id in ipairs(call('LRANGE', K .. 'i:' .. ARGV[2], 0, -1)) do
  if #known < tonumber(ARGV[3]) and call('EXISTS', K .. 'j:' .. id) == 1 then
    known[#known + 1] = id
  end
end
return known
