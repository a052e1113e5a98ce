-- Counts. Returns: the hash of counts, leased, held, messages, the fifty destinations with the most
-- open deliveries, each: destination, waiting, slots in use; suspensions; and each delivery that leaves
-- for another partition: queue id, number, what v:<queue id> says of it, destination, recipients,
-- 1 if it is held, 1 if it has an unknown outcome.

local destinations = {}
local largest = call('ZREVRANGE', K .. 'load', 0, 49, 'WITHSCORES')
for at = 1, #largest, 2 do
  local dest = largest[at]
  local waiting = largest[at + 1] - tonumber(call('HGET', K .. 'holds', dest) or 0)
  for _, token in ipairs(call('SMEMBERS', K .. 'at:' .. dest)) do
    waiting = waiting - (call('HLEN', K .. 'l:' .. token) - 3)
  end
  destinations[#destinations + 1] = { dest, waiting,
    tonumber(call('HGET', K .. 'slots', dest) or 0) }
end
local leaving = {}
for _, name in ipairs(call('ZRANGE', K .. 'moving', 0, -1)) do
  local id, number = string.match(name, '^([^.]*)%.(%d+)$')
  local row = call('HMGET', K .. 'm:' .. id, 'd' .. number, 's' .. number, 'h' .. number)
  if row[1] then
    local _, recipients = string.gsub(row[1], '\n', '')
    local held = row[3] and (row[3] == '0' or tonumber(row[3]) > now)
    leaving[#leaving + 1] = { id, number, call('HGET', K .. 'v:' .. id, number),
      string.match(row[1], '^[^\n]*'), recipients, held and 1 or 0,
      string.find(row[2] or '', 'u', 1, true) and 1 or 0 }
  end
end
return { call('HGETALL', K .. 'count'), call('HLEN', K .. 'leased'), call('ZCARD', K .. 'held'),
  call('ZCARD', K .. 'index'), destinations,
  call('HLEN', K .. 'suspensions'), leaving }
