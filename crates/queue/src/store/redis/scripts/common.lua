-- What several scripts share. Every script runs with
--   KEYS[1]  what all key names begin with; its {tag} puts them on one slot
--   ARGV[1]  slots that one destination has, over all workers
--   now      the store's time, Unix microseconds (the line before this file)
-- Numbers beyond 10^14 would print with an exponent, so times are written by `us`.

local K, LIMIT, call = KEYS[1], tonumber(ARGV[1]), redis.call

local function us(time)
  return string.format('%.0f', time)
end

-- The time as text.
local NOW = us(now)

-- Runs a command on a long list, in pieces that Lua's stack holds. The list may hold pairs.
local function call_all(command, key, list)
  for from = 1, #list, 2000 do
    call(command, key, unpack(list, from, math.min(from + 1999, #list)))
  end
end

-- Tells every instance that something is to come sooner than it knows.
local timer_sent = false
local function timer()
  if not timer_sent then
    timer_sent = true
    call('PUBLISH', K .. 'wake', '')
  end
end

-- Tells every instance that a destination has a due delivery or a free slot.
local function wake(dest)
  call('PUBLISH', K .. 'wake', dest)
end

-- Files a destination after its due deliveries or its slots have changed: under `ready` while
-- it has deliveries and a free slot, by its oldest due time; under `later` while that is still
-- to come. Returns whether a delivery is due now.
local function file(dest)
  local ready = K .. 'ready:' .. string.match(dest, '^[^:]*')
  local head = call('ZRANGE', K .. 'due:' .. dest, 0, 0, 'WITHSCORES')[2]
  if not head then
    call('ZREM', ready, dest)
    call('ZREM', K .. 'later', dest)
    return false
  end
  if tonumber(call('HGET', K .. 'slots', dest) or 0) < LIMIT then
    call('ZADD', ready, head, dest)
  else
    call('ZREM', ready, dest)
  end
  head = tonumber(head)
  if head <= now then
    call('ZREM', K .. 'later', dest)
    return true
  end
  local first = call('ZRANGE', K .. 'later', 0, 0, 'WITHSCORES')[2]
  call('ZADD', K .. 'later', us(head), dest)
  if not first or head < tonumber(first) then
    timer()
  end
  return false
end

-- Counts are gathered here and written once, by `write_counts`.
local counts = { commits = 1 }
local function count(what, by)
  counts[what] = (counts[what] or 0) + by
end

local load = {}
local function write_counts()
  for what, by in pairs(counts) do
    if by ~= 0 then
      call('HINCRBY', K .. 'count', what, by)
    end
  end
  counts = {}
  for dest, by in pairs(load) do
    if by ~= 0 and tonumber(call('ZINCRBY', K .. 'load', by, dest)) <= 0 then
      call('ZREM', K .. 'load', dest)
    end
  end
  load = {}
end

-- Queue ids that got journey events, for those who follow.
local followed = {}
local function tell_followers()
  if #followed > 0 then
    call('PUBLISH', K .. 'journeys', table.concat(followed))
    followed = {}
  end
end
