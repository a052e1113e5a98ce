-- Applies reports of attempts, each in one step with its journey event and its DSNs.
--   ARGV[2] journey retention in milliseconds, [3] lifetime in microseconds,
--   [4] number of completions, each:
--     token, queue id, number of the delivery, number of the attempt (0: the
--     present one),
--     wait before the next attempt in microseconds, 1 if an outcome is unknown,
--     the attempt as journey event, the outcomes of what stays open (an encoded Attempt),
--     number of outcomes, each: kind (as in OutcomeKind), address
--     number of DSNs, each: its notice for the journey, the message as in accept.lua
-- Returns 1 (done) or 0 (stale) for each.

local DELIVERED, FAILED = '1', '3'
-- Outcomes that are kept for recipients which an attempt left out may grow to this size.
local MOST_KEPT = 65536

local results = {}
local live = {}      -- token: whether its lease is
local handed = {}    -- token: deliveries of this batch that are leased under it, and its destination
local completed = {} -- token: deliveries to take off its lease
local changed = {}   -- destinations with new due times
local pending = call('EXISTS', K .. 'pending') == 1

local function is_live(token)
  if live[token] == nil then
    local until_us = call('ZSCORE', K .. 'ends', token)
    live[token] = until_us and tonumber(until_us) > now or false
  end
  return live[token]
end

-- Whether a report was applied under this token before, so that only its answer was lost. What is
-- known of it is the first line of its event: time, next attempt, delivery, token, attempt.
local function repeated(id, number, token, attempt)
  for _, event in ipairs(call('LRANGE', K .. 'j:' .. id, 1, -1)) do
    local delivery, under, done = string.match(event, '^%d+ %d+ (%d+) (%d+) (%d+)\n')
    if delivery == number and under == token and tonumber(attempt) <= tonumber(done) then
      return true
    end
  end
  return false
end

-- Splits the open recipients by their outcomes.
local function split(open, first, outcomes)
  local kinds = {}
  for at = first, first + 2 * (outcomes - 1), 2 do
    local address = ARGV[at + 1]
    kinds[address] = kinds[address] or ARGV[at]
  end
  local delivered, failed, left, missing = 0, 0, {}, false
  for address in string.gmatch(open, '\n([^\n]*)') do
    local kind = kinds[address]
    if kind == DELIVERED then
      delivered = delivered + 1
    elseif kind == FAILED then
      failed = failed + 1
    else
      left[#left + 1] = address
      missing = missing or not kind
    end
  end
  return delivered, failed, left, missing
end

-- Applies the completion at ARGV[at]. Returns its result, and whether it was applied just now.
local function apply(at, outcomes)
  local token, id, number, attempt = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local delivery = id .. '.' .. number
  local key = K .. 'm:' .. id
  local row = handed[token][delivery] and is_live(token)
    and call('HMGET', key, 'd' .. number, 's' .. number, 'o', 'i', 'x', 'f', 'a')
  local attempts, flag
  if row and row[1] then
    attempts, flag = string.match(row[2] or '0', '^(%d+)(.*)$')
    attempts = tonumber(attempts)
  end
  if not attempts or (attempt ~= '0' and tonumber(attempt) ~= attempts + 1) then
    if repeated(id, number, token, attempt) then
      return 1, false
    end
    count('stale', 1)
    return 0, false
  end

  local dest = handed[token].dest
  handed[token][delivery] = nil -- what follows in this batch is a repetition
  completed[token] = completed[token] or {}
  completed[token][#completed[token] + 1] = delivery
  local delivered, failed, left, missing = split(row[1], at + 9, outcomes)
  local wanted
  if pending then
    wanted = call('HGET', K .. 'pending', delivery)
    call('HDEL', K .. 'pending', delivery)
  end
  local removed = 0
  if wanted == 'r' then
    removed, left = #left, {}
  end
  count('delivered', delivered)
  count('failed', failed)
  count('removed', removed)
  count('open', -delivered - failed - removed)
  if ARGV[at + 5] == '1' then
    count('unknown', 1)
  end

  local due = 0
  if #left == 0 then
    finish(id, number, dest, { o = row[3], i = row[4], x = row[5], f = row[6] })
  else
    due = math.max(now, math.min(now + ARGV[at + 4], row[7] + ARGV[3]))
    if wanted == 'b' then
      flag = 'b'
    end
    local kept = ARGV[at + 7]
    if missing then
      local before = call('HGET', key, 'l' .. number) or ''
      if #before < MOST_KEPT then
        kept = before .. kept
      end
    end
    if missing or wanted == 'b' then
      due = now
    end
    call('HSET', key, 'd' .. number, dest .. '\n' .. table.concat(left, '\n'),
      's' .. number, us(attempts + 1) .. flag, 'l' .. number, kept)
    if wanted == 'h' then
      call('ZADD', K .. 'held', us(due), delivery)
    else
      call('ZADD', K .. 'due:' .. dest, us(due), delivery)
      changed[dest] = true
    end
  end
  call('RPUSH', K .. 'j:' .. id, string.format('%s %s %s %s %s\n', NOW, us(due), number, token,
    us(attempts + 1)) .. ARGV[at + 6])
  followed[#followed + 1] = id
  return 1, true
end

-- Asks each lease once for all deliveries of the batch that name it. Returns where each completion
-- begins.
local function read_leases(first, total)
  local starts, named = {}, {}
  local at = first
  for completion = 1, total do
    starts[completion] = at
    local token = ARGV[at]
    named[token] = named[token] or {}
    named[token][#named[token] + 1] = ARGV[at + 1] .. '.' .. ARGV[at + 2]
    at = at + 9 + 2 * ARGV[at + 8]
    local dsn = tonumber(ARGV[at])
    at = at + 1
    for _ = 1, dsn do
      at = after_message(at + 1)
    end
  end
  for token, deliveries in pairs(named) do
    handed[token] = {}
    for from = 1, #deliveries, 1000 do
      local to = math.min(from + 999, #deliveries)
      local found = call('HMGET', K .. 'l:' .. token, 'd', unpack(deliveries, from, to))
      handed[token].dest = found[1]
      for place = from, to do
        handed[token][deliveries[place]] = found[place - from + 2]
      end
    end
  end
  return starts
end

call('ZREM', K .. 'ends', '') -- as in lease.lua
local starts = read_leases(5, tonumber(ARGV[4]))
for completion, at in ipairs(starts) do
  local outcomes = tonumber(ARGV[at + 8])
  local journey = K .. 'j:' .. ARGV[at + 1]
  local dsn = at + 9 + 2 * outcomes
  local result, now_applied = apply(at, outcomes)
  results[completion] = result
  if now_applied then
    at = dsn + 1
    for _ = 1, tonumber(ARGV[dsn]) do
      call('RPUSH', journey, NOW .. '\n' .. ARGV[at])
      accept(at + 1)
      at = after_message(at + 1)
    end
  end
end

for token, deliveries in pairs(completed) do
  call_all('HDEL', K .. 'l:' .. token, deliveries)
  call_all('HDEL', K .. 'leased', deliveries)
end
publish_ended()
publish_accepted()
for dest in pairs(changed) do
  if file(dest) then
    wake(dest)
  end
end
write_counts()
tell_followers()
return results
