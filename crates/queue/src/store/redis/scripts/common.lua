-- What several scripts share. Every script runs with
--   KEYS[1]  what all key names begin with; its {tag} puts them on one slot. It names no key that
--            exists, so that a node from which the slot is being moved refuses the script.
--   ARGV[1]  slots that one destination has, over all workers
--   ARGV[2]  how long journeys are kept, in milliseconds
--   ARGV[3]  what holds for which destination and tenant (rules.lua)
--   now      the store's time, Unix microseconds (the line before this file)
-- Numbers beyond 10^14 would print with an exponent, so times are written by `us`.

local K, LIMIT, call = KEYS[1], tonumber(ARGV[1]), redis.call

local function us(time)
  return string.format('%.0f', time)
end

-- The time as text.
local NOW = us(now)
-- The same in 16 digits, as due times are written.
local NOW16 = string.format('%016.0f', now)

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
    call('SPUBLISH', K .. 'wake', '')
  end
end

-- Tells every instance that a destination has a due delivery or a free slot.
local function wake(dest)
  call('SPUBLISH', K .. 'wake', dest)
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
    call('SPUBLISH', K .. 'journeys', table.concat(followed))
    followed = {}
  end
end
