-- Counts. Returns: the hash of counts, leased, held, messages, and the fifty destinations with the
-- most open deliveries, each: destination, waiting, slots in use.

local destinations = {}
for _, dest in ipairs(call('ZREVRANGE', K .. 'load', 0, 49)) do
  destinations[#destinations + 1] = { dest, call('ZCARD', K .. 'due:' .. dest),
    tonumber(call('HGET', K .. 'slots', dest) or 0) }
end
return { call('HGETALL', K .. 'count'), call('HLEN', K .. 'leased'), call('ZCARD', K .. 'held'),
  call('ZCARD', K .. 'index'), destinations }
