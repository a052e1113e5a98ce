-- Reads queued messages, for list, show and the choice of an act. Changes nothing.
--   ARGV[2] 'from': [3] a lower bound of ZRANGEBYLEX, [4] most messages
--           'ids': [3...] queue ids
-- Returns for each message: queue id, record, time of acceptance, then its open deliveries, each:
--   number, d<n>, s<n>, l<n>, state (w waiting, l leased, h held), due time, worker

local ids
if ARGV[2] == 'from' then
  ids = call('ZRANGEBYLEX', K .. 'index', ARGV[3], '+', 'LIMIT', 0, ARGV[4])
else
  ids = { unpack(ARGV, 3) }
end

local rows = {}
for _, id in ipairs(ids) do
  local key = K .. 'm:' .. id
  local message = call('HMGET', key, 'm', 'a', 'n')
  if message[1] then
    local row = { id, message[1], message[2] }
    for number = 0, (message[3] or 1) - 1 do
      local fields = call('HMGET', key, 'd' .. number, 's' .. number, 'l' .. number)
      if fields[1] then
        local delivery = id .. '.' .. number
        local state, due, worker = 'w', false, false
        local token = call('HGET', K .. 'leased', delivery)
        if token then
          state = 'l'
          local lease = call('HMGET', K .. 'l:' .. token, 'w', delivery)
          worker = lease[1]
          due = lease[2] and string.match(lease[2], '^%d+')
        else
          local dest = string.match(fields[1], '^[^\n]*')
          due = call('ZSCORE', K .. 'due:' .. dest, delivery)
          if not due then
            state = 'h'
            due = call('ZSCORE', K .. 'held', delivery)
          end
          due = due and us(tonumber(due))
        end
        row[#row + 1] = { number, fields[1], fields[2], fields[3], state, due, worker }
      end
    end
    rows[#rows + 1] = row
  end
end
return rows
