-- Adds deliveries to a message's record: those of one partition, where others have moved to before them, or
-- one that moves. The highest number among them is `last`.
local function extend(id, last, added)
  local key = K .. 'm:' .. id
  local row = call('HMGET', key, 'n', 'o')
  call('HSET', key, 'n', math.max(row[1] or 1, last + 1), 'o', (row[2] or 1) + added)
end
