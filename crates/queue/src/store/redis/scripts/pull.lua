-- Takes due deliveries under leases.
--   ARGV[4]  most bytes of content in all, [5] number of requests, each:
--            token, most deliveries, the pull's number, 1 if its answer was lost before
-- Returns now, and for each request nil (0) for a stale lease or a list of deliveries: delivery, due
-- time, and the fields of its message: a, y, r, d<n>, s<n>, l<n>.
-- A pull whose answer was lost is asked for again under its old number, and gets the same
-- deliveries: the lease remembers "<due> <pull>" of each.

call('ZREM', K .. 'ends', '') -- as in lease.lua
local MOST = 500 -- deliveries of one request

local budget = tonumber(ARGV[4])
local answers = { NOW }
local parking = { left = 256 }

local function row(delivery, due)
  local id, number = string.match(delivery, '^([^.]*)%.(%d+)$')
  local message = call('HMGET', K .. 'm:' .. id, 'z', 'a', 'y', 'r', 'd' .. number, 's' .. number,
    'l' .. number)
  budget = budget - (message[1] or 0)
  return { delivery, due, message[2], message[3], message[4], message[5], message[6], message[7] }
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
    return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1])
  end)
  return rows
end

local function pull_under(lease, token, dest, most, pull)
  local rows, under, owners = {}, {}, {}
  if suspensions().whole[dest] then
    return rows
  end
  move_due(dest, 1000)
  take(dest, math.min(most, MOST), function(delivery, due)
    if #rows > 0 and budget <= 0 then
      return nil
    end
    local found = row(delivery, due)
    -- Without its fields the message has ended, and the entry is a mistake to be dropped.
    if not found[6] then
      return false
    end
    rows[#rows + 1] = found
    under[#under + 1] = delivery
    under[#under + 1] = due .. ' ' .. pull
    owners[#owners + 1] = delivery
    owners[#owners + 1] = token
    return true
  end, parking)
  file(dest)
  if #rows < most and first_ready(dest) then
    wake(dest) -- it was too much for one answer, or lies behind what was parked
  end
  if #rows > 0 then
    call_all('HSET', lease, under)
    call_all('HSET', K .. 'leased', owners)
  end
  return rows
end

local at = 6
for request = 1, tonumber(ARGV[5]) do
  local token, most, pull = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local lease = K .. 'l:' .. token
  local dest = call('HGET', lease, 'd')
  local until_us = dest and call('ZSCORE', K .. 'ends', token)
  if not until_us or tonumber(until_us) <= now then
    answers[request + 1] = 0
  else
    local rows = ARGV[at + 3] == '1' and again(lease, pull) or {}
    if #rows == 0 then
      rows = pull_under(lease, token, dest, most, pull)
    end
    answers[request + 1] = rows
  end
  at = at + 4
end
return answers
