-- Applies reports of attempts, each in one step with its journey event and its DSNs.
--   ARGV[4] the event for journeys of what a destination's policy holds, [5] number of completions,
--   each:
--     token, queue id, number of the delivery, number of the attempt (0: the present one),
--     wait before the next attempt in microseconds, 1 if an outcome is unknown, 1 if the sender
--     is told of the delay,
--     the attempt as journey event, the outcomes of what stays open (an encoded Attempt),
--     number of outcomes, each: kind (as in OutcomeKind), address
--     number of DSNs, each: its notice for the journey ('' if none), the partition that it goes to ('': this one),
--     the message as in accept.lua
-- Returns 1 (done), 3 (done, and it leaves for another partition), 2 (done before) or 0 (stale) for each.

local DELIVERED, FAILED = '1', '3'
-- Outcomes that are kept for recipients which an attempt left out may grow to this size.
local MOST_KEPT = 65536

local results = {}
local live = {}      -- token: whether its lease is
local handed = {}    -- token: deliveries of this batch that are leased under it, and its destination
local completed = {} -- token: deliveries to take off its lease
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

-- What is open after an attempt waits.
local function wait(at, row, dest, left, missing, progress, wanted)
  local id, number = ARGV[at + 1], ARGV[at + 2]
  local key = K .. 'm:' .. id
  local begins = math.max(tonumber(row[5]), tonumber(row[6] or 0))
  local due = math.max(now, math.min(now + ARGV[at + 4], begins + policy(dest).lifetime))
  local kept = ARGV[at + 8]
  if missing then
    due = now
    local before = call('HGET', key, 'l' .. number) or ''
    if #before < MOST_KEPT then
      kept = before .. kept
    end
  end
  if ARGV[at + 6] == '1' then
    progress.warned = true
  end
  call('HSET', key, 'd' .. number, dest .. '\n' .. table.concat(left, '\n'), 'l' .. number, kept)
  return put_back(id, number, dest, digits(due), progress, wanted,
    ARGV[at + 5] == '1' and policy(dest).hold)
end

-- Applies the completion at ARGV[at]. Returns its result, and whether it was applied just now.
local function apply(at, outcomes)
  local token, id, number, attempt = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local delivery = id .. '.' .. number
  local row = handed[token][delivery] and is_live(token)
    and call('HMGET', K .. 'm:' .. id, 'd' .. number, 's' .. number, 'o', 'f', 'a', 'y')
  local progress = row and row[1] and read_progress(row[2])
  if not progress or (attempt ~= '0' and tonumber(attempt) ~= progress.attempts + 1) then
    if repeated(id, number, token, attempt) then
      return 2, false
    end
    count('stale', 1)
    return 0, false
  end

  local dest = handed[token].dest
  handed[token][delivery] = nil -- what follows in this batch is a repetition
  completed[token] = completed[token] or {}
  completed[token][#completed[token] + 1] = delivery
  local delivered, failed, left, missing = split(row[1], at + 10, outcomes)
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
  progress.attempts = progress.attempts + 1
  if ARGV[at + 5] == '1' then
    add_unknown(progress)
  end

  local due, held, left_before = 0, false, leaving
  if #left == 0 then
    finish(id, number, dest,
      { o = row[3], f = row[4], a = row[5], s = write_progress(progress) })
  else
    due, held = wait(at, row, dest, left, missing, progress, wanted)
  end
  call('RPUSH', K .. 'j:' .. id, string.format('%s %.0f %s %s %.0f\n', NOW, due, number, token,
    progress.attempts) .. ARGV[at + 7])
  if held then
    call('RPUSH', K .. 'j:' .. id, NOW .. '\n' .. ARGV[4])
  end
  followed[#followed + 1] = id
  return leaving > left_before and 3 or 1, true
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
    at = at + 10 + 2 * ARGV[at + 9]
    local dsn = tonumber(ARGV[at])
    at = at + 1
    for _ = 1, dsn do
      at = after_message(at + 2)
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
local starts = read_leases(6, tonumber(ARGV[5]))
for completion, at in ipairs(starts) do
  local outcomes = tonumber(ARGV[at + 9])
  local journey = K .. 'j:' .. ARGV[at + 1]
  local dsn = at + 10 + 2 * outcomes
  local result, now_applied = apply(at, outcomes)
  results[completion] = result
  if now_applied then
    at = dsn + 1
    for _ = 1, tonumber(ARGV[dsn]) do
      if ARGV[at] ~= '' then
        call('RPUSH', journey, NOW .. '\n' .. ARGV[at])
      end
      if ARGV[at + 1] == '' then
        accept(at + 2)
      else
        post(at + 2, ARGV[at + 1])
      end
      at = after_message(at + 2)
    end
  end
end

for token, deliveries in pairs(completed) do
  call_all('HDEL', K .. 'l:' .. token, deliveries)
  call_all('HDEL', K .. 'leased', deliveries)
end
publish_ended()
publish_accepted()
publish_placed()
write_counts()
tell_followers()
return results
