-- Takes due deliveries under leases.
--   ARGV[2]  most bytes of bodies in all, [3] number of requests, each:
--            token, most deliveries, the pull's number, 1 if its answer was lost before
-- Returns now, and for each request nil (0) for a stale lease or a list of deliveries: delivery, due
-- time, and the fields of its message: m, b, a, d<n>, s<n>, l<n>.
-- A pull whose answer was lost is asked for again under its old number, and gets the same
-- deliveries: the lease remembers "<due> <pull>" of each.

local budget = tonumber(ARGV[2])
local answers = { NOW }

local function row(delivery, due)
  local id, number = string.match(delivery, '^([^.]*)%.(%d+)$')
  local message = call('HMGET', K .. 'm:' .. id, 'm', 'b', 'a', 'd' .. number, 's' .. number,
    'l' .. number)
  if message[2] then
    budget = budget - #message[2]
  end
  return { delivery, due, message[1], message[2], message[3], message[4], message[5], message[6] }
end

local function again(lease, pull)
  local rows = {}
  local fields = call('HGETALL', lease)
  for at = 1, #fields, 2 do
    local due, number = string.match(fields[at + 1], '^(%d+) (%d+)$')
    if number == pull and string.find(fields[at], '.', 1, true) then
      rows[#rows + 1] = row(fields[at], due)
    end
  end
  table.sort(rows, function(a, b)
    return tonumber(a[2]) < tonumber(b[2]) or (a[2] == b[2] and a[1] < b[1])
  end)
  return rows
end

local function take(lease, token, dest, most, pull)
  local rows, under, owners, taken = {}, {}, {}, 0
  local list = call('ZRANGEBYSCORE', K .. 'due:' .. dest, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0,
    most)
  for at = 1, #list, 2 do
    if #rows > 0 and budget <= 0 then
      break
    end
    taken = taken + 1
    local delivery, due = list[at], us(tonumber(list[at + 1]))
    local found = row(delivery, due)
    -- Without a record the message has ended, and the entry is a mistake to be dropped.
    if found[3] then
      rows[#rows + 1] = found
      under[#under + 1] = delivery
      under[#under + 1] = due .. ' ' .. pull
      owners[#owners + 1] = delivery
      owners[#owners + 1] = token
    end
  end
  if taken > 0 then
    call('ZREMRANGEBYRANK', K .. 'due:' .. dest, 0, taken - 1)
    file(dest)
  end
  if #rows > 0 then
    call_all('HSET', lease, under)
    call_all('HSET', K .. 'leased', owners)
  end
  return rows
end

local at = 4
for request = 1, tonumber(ARGV[3]) do
  local token, most, pull = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local lease = K .. 'l:' .. token
  local dest = call('HGET', lease, 'd')
  local until_us = dest and call('ZSCORE', K .. 'ends', token)
  if not until_us or tonumber(until_us) <= now then
    answers[request + 1] = 0
  else
    local rows = ARGV[at + 3] == '1' and again(lease, pull) or {}
    if #rows == 0 then
      rows = take(lease, token, dest, most, pull)
    end
    answers[request + 1] = rows
  end
  at = at + 4
end
return answers
