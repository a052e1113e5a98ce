-- Grants slots at destinations that have due deliveries, longest waiting first. Leases whose time
-- is over end before.
--   ARGV[4] the event for journeys of lost attempts, [5] the one for those that are held then,
--   [6] worker, [7] slots wanted, [8] most grants, [9] lease in microseconds, [10] the call's number,
--   [11...] transports
-- A call whose answer was lost comes again under its number, and is told its grants again before it
-- gets more.
-- Returns token, destination, slots in all and slots added of each grant. A worker's lease of a destination grows
-- and keeps its token.

local worker, want, most = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local leases = K .. 'ends'

-- A first write that Redis allows when its memory is full lets the rest of the script write:
-- a full store must drain.
call('ZREM', leases, '')
repeat until expire_leases(ARGV[4], ARGV[5]) < 100
end_suspensions()
end_holds()
place_parked()
move_all_due()

-- Deliveries that are ready, counted to `enough`.
local function ready(dest, enough)
  local number = call('ZCARD', K .. 'ready:' .. dest)
  if number < enough then
    for _, tenant in ipairs(call('ZRANGE', K .. 'shares:' .. dest, 0, -1)) do
      if tenant ~= '' then
        number = number + call('ZCARD', ready_of(dest, tenant))
        if number >= enough then
          break
        end
      end
    end
  end
  return number
end

-- Slots that would be of use at a destination: for due deliveries beyond those that wait for a
-- slot which is granted and idle.
local function useful(dest)
  local used = tonumber(call('HGET', K .. 'slots', dest) or 0)
  local idle = 0
  if used > 0 then
    idle = used
    for _, token in ipairs(call('SMEMBERS', K .. 'at:' .. dest)) do
      idle = idle - (call('HLEN', K .. 'l:' .. token) - 3)
    end
    idle = math.max(0, idle)
  end
  return math.min(LIMIT - used, ready(dest, LIMIT + idle) - idle)
end

-- Parks what suspensions stop, up to the first that they do not.
local function park(dest, parking)
  if #suspensions().some > 0 then
    take(dest, 1, function() return nil end, parking)
  end
end

-- More than can be granted, since some may be of no use: each of those has a live lease, or has only
-- what suspensions stop, which is parked then.
local parking = { left = 256 }
local looked_at = most + call('ZCARD', leases)
if #suspensions().some > 0 then
  looked_at = looked_at + parking.left
end
local candidates = {}
for at = 11, #ARGV do
  local waits = call('ZRANGEBYSCORE', K .. 'waits:' .. ARGV[at], '-inf', NOW, 'WITHSCORES',
    'LIMIT', 0, looked_at)
  for pair = 1, #waits, 2 do
    candidates[#candidates + 1] = { waits[pair], tonumber(waits[pair + 1]) }
  end
end
if #ARGV > 11 then
  table.sort(candidates, function(a, b)
    return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1])
  end)
end

-- Tokens only grow, also past a server's death that took some with it: they are never below the time.
local function next_token()
  local token = us(math.max(tonumber(call('GET', K .. 'token') or 0) + 1, now))
  call('SET', K .. 'token', token)
  return token
end

local grants = {}

-- What this call has granted before, as far as it is still live: number of the call, then token and slots
-- added of each. The worker takes it for new, so it lasts as if it were.
local told = K .. 'g:' .. worker
local before = call('LRANGE', told, 0, -1)
if before[1] == ARGV[10] then
  for at = 2, #before, 2 do
    local lease = call('HMGET', K .. 'l:' .. before[at], 'd', 'n')
    if lease[1] then
      local slots = tonumber(before[at + 1])
      want = math.max(0, want - slots)
      call('ZADD', leases, us(now + ARGV[9]), before[at])
      grants[#grants + 1] = { before[at], lease[1], tonumber(lease[2]), slots }
    end
  end
end
local known = #grants

for _, candidate in ipairs(candidates) do
  if want == 0 or #grants >= most then
    break
  end
  local dest = candidate[1]
  park(dest, parking)
  local slots = math.min(useful(dest), want)
  if slots > 0 then
    local mine = K .. 'w:' .. worker
    local token = call('HGET', mine, dest)
    local total
    if token then
      total = call('HINCRBY', K .. 'l:' .. token, 'n', slots)
    else
      token = next_token()
      total = slots
      call('HSET', K .. 'l:' .. token, 'w', worker, 'd', dest, 'n', slots)
      call('HSET', mine, dest, token)
      call('SADD', K .. 'at:' .. dest, token)
      if call('ZCARD', leases) == 0 then
        timer()
      end
      call('ZADD', leases, us(now + ARGV[9]), token)
    end
    local waits = K .. 'waits:' .. string.match(dest, '^[^:]*')
    if call('HINCRBY', K .. 'slots', dest, slots) >= LIMIT then
      call('ZREM', waits, dest)
    else
      call('ZADD', waits, NOW16, dest)
    end
    want = want - slots
    grants[#grants + 1] = { token, dest, total, slots }
  elseif not first_ready(dest) then
    file(dest)
  end
end
if #grants > known then
  local again = { ARGV[10] }
  for _, grant in ipairs(grants) do
    again[#again + 1] = grant[1]
    again[#again + 1] = grant[4]
  end
  call('DEL', told)
  call_all('RPUSH', told, again)
  call('PEXPIRE', told, math.ceil(ARGV[9] / 1000))
end
if parking.left == 0 then
  -- There may be something behind what was parked: everybody is to ask again.
  wake(candidates[1][1])
end
return grants
