-- Reads deliveries that leave for other partitions. Changes nothing.
--   ARGV[4] 'left': [5] those that have been at it for so many microseconds, [6] at most so many, [7] with so
--           many left out, [8...] and those that go to these partitions
--           'these': [5...] pairs of queue id and number; what does not leave is passed over
-- Returns microseconds until another one may be left behind, or nil if none leaves; with how many left out to
-- go on, or nil at the end; then for each:
--   queue id, number, what v:<queue id> says of it, the fields z f r t p y a of its message, d<n>,
--   s<n>, l<n>, when it is due, h<n>, the beginning of the journey

local ITEMS = 101 -- a header, a hundred events at most, that it was queued

local function to(name)
  local id, number = string.match(name, '^([^.]*)%.(%d+)$')
  return string.match(call('HGET', K .. 'v:' .. id, number) or '', ' (%d+)$')
end

local names, go_on = {}, nil
if ARGV[4] == 'left' then
  names, go_on = left_behind(K .. 'moving', tonumber(ARGV[7]), now - ARGV[5], tonumber(ARGV[6]), 8, to)
else
  for at = 5, #ARGV, 2 do
    local name = ARGV[at] .. '.' .. ARGV[at + 1]
    if call('ZSCORE', K .. 'moving', name) then
      names[#names + 1] = name
    end
  end
end
local answer = { call('EXISTS', K .. 'moving') == 1 and '1000000', go_on and us(go_on) or false }
for _, name in ipairs(names) do
  local id, number = string.match(name, '^([^.]*)%.(%d+)$')
  local row = call('HMGET', K .. 'm:' .. id, 'z', 'f', 'r', 't', 'p', 'y', 'a', 'd' .. number,
    's' .. number, 'l' .. number, 'u' .. number, 'h' .. number)
  local out = { id, number, call('HGET', K .. 'v:' .. id, number) }
  for field = 1, 12 do
    out[3 + field] = row[field]
  end
  out[16] = call('LRANGE', K .. 'j:' .. id, 0, ITEMS)
  if row[8] then
    out[14] = due_of(row[11], row[7], row[6])
    answer[#answer + 1] = out
  end
end
return answer
