-- Reads queued messages, for list and show. Changes nothing.
--   ARGV[4] 'from': [5] a lower bound of ZRANGEBYLEX, [6] most messages
--           'ids': [5...] queue ids
-- Returns now, and for each message: queue id, time of acceptance, time before which it is not
-- attempted, then its open deliveries, each:
--   number, d<n>, s<n>, l<n>, state (w waiting, l leased, h held), due time, worker, end of the hold,
--   what v:<queue id> says of it if it leaves for another partition

local ids
if ARGV[4] == 'from' then
  ids = call('ZRANGEBYLEX', K .. 'index', ARGV[5], '+', 'LIMIT', 0, ARGV[6])
else
  ids = { unpack(ARGV, 5) }
end

local moving = call('EXISTS', K .. 'moving') == 1
local rows = { NOW }
for _, id in ipairs(ids) do
  local key = K .. 'm:' .. id
  local message = call('HMGET', key, 'a', 'y', 'n')
  if message[1] then
    local row = { id, message[1], message[2] }
    for number = 0, (message[3] or 1) - 1 do
      local fields = call('HMGET', key, 'd' .. number, 's' .. number, 'l' .. number, 'u' .. number,
        'h' .. number)
      if fields[1] then
        local delivery = id .. '.' .. number
        local state, worker = 'w', false
        local due = due_of(fields[4], message[1], message[2])
        local token = call('HGET', K .. 'leased', delivery)
        if token then
          state = 'l'
          local lease = call('HMGET', K .. 'l:' .. token, 'w', delivery)
          worker = lease[1]
          due = lease[2] and string.match(lease[2], '^%d+') or due
        elseif fields[5] then
          state = 'h'
        end
        local leaves = moving and call('ZSCORE', K .. 'moving', delivery)
          and call('HGET', K .. 'v:' .. id, number)
        row[#row + 1] = { number, fields[1], fields[2], fields[3], state, due, worker, fields[5],
          leaves }
      end
    end
    rows[#rows + 1] = row
  end
end
return rows
