-- Grants slots at destinations that have due deliveries, longest waiting first. Leases whose time
-- is over end before.
--   ARGV[2] journey retention in milliseconds, [3] the event for journeys of lost attempts,
--   [4] worker, [5] slots wanted, [6] most grants, [7] lease in microseconds, [8...] transports
-- Returns token, destination and slots in all of each grant. A worker's lease of a destination grows
-- and keeps its token.

local worker, want, most = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local leases = K .. 'ends'

-- A first write that Redis allows when its memory is full lets the rest of the script write:
-- a full store must drain.
call('ZREM', leases, '')
repeat until expire_leases(ARGV[3]) < 100

-- Slots that would be of use at a destination: for due deliveries beyond those that wait for a
-- slot which is granted and idle.
local function useful(dest)
  local used = tonumber(call('HGET', K .. 'slots', dest) or 0)
  local due = call('ZCOUNT', K .. 'due:' .. dest, '-inf', NOW)
  if used > 0 then
    local open = tonumber(call('ZSCORE', K .. 'load', dest) or 0)
    local leased = math.max(0, open - call('ZCARD', K .. 'due:' .. dest))
    due = due - math.max(0, used - leased)
  end
  return math.min(LIMIT - used, due)
end

-- More than can be granted, since some may be of no use; each of those has a live lease.
local looked_at = most + call('ZCARD', leases)
local candidates = {}
for at = 8, #ARGV do
  local ready = call('ZRANGEBYSCORE', K .. 'ready:' .. ARGV[at], '-inf', NOW, 'WITHSCORES',
    'LIMIT', 0, looked_at)
  for pair = 1, #ready, 2 do
    candidates[#candidates + 1] = { ready[pair], tonumber(ready[pair + 1]) }
  end
end
if #ARGV > 8 then
  table.sort(candidates, function(a, b)
    return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1])
  end)
end

local grants = {}
for _, candidate in ipairs(candidates) do
  if want == 0 or #grants == most then
    break
  end
  local dest = candidate[1]
  local slots = math.min(useful(dest), want)
  if slots > 0 then
    local mine = K .. 'w:' .. worker
    local token = call('HGET', mine, dest)
    local total
    if token then
      total = call('HINCRBY', K .. 'l:' .. token, 'n', slots)
    else
      token = us(call('INCR', K .. 'token'))
      total = slots
      call('HSET', K .. 'l:' .. token, 'w', worker, 'd', dest, 'n', slots)
      call('HSET', mine, dest, token)
      if call('ZCARD', leases) == 0 then
        timer()
      end
      call('ZADD', leases, us(now + ARGV[7]), token)
    end
    if call('HINCRBY', K .. 'slots', dest, slots) >= LIMIT then
      call('ZREM', K .. 'ready:' .. string.match(dest, '^[^:]*'), dest)
    end
    want = want - slots
    grants[#grants + 1] = { token, dest, total }
  end
end
return grants
