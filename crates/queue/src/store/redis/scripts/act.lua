-- An operator's act on deliveries.
--   ARGV[4] act: t retry, h hold, l release, r remove, b bounce, R reroute, M reroute to another
--   partition, [5] of a hold when it ends (0: when released), of a reroute where to, with the number of the
--   partition before it, [6] the event for journeys, [7...] pairs of queue id and number of the delivery
-- Returns 1 for each that changed, 2 for each that leaves for another partition, where the act belongs,
-- -1 - p for each that has gone to partition p, otherwise 0.

local what, value, event = ARGV[4], ARGV[5], ARGV[6]

-- On a leased delivery the act is remembered until its attempt ends.
local function remember(delivery, dest)
  local wanted = call('HGET', K .. 'pending', delivery)
  if what == 'l' then
    return wanted and string.sub(wanted, 1, 1) == 'h'
      and call('HDEL', K .. 'pending', delivery) == 1
  end
  local new = what .. value
  if what == 't' or (what == 'h' and wanted == new) then
    return false
  end
  if what == 'R' or what == 'M' then
    local elsewhere = wanted and string.match(wanted, '^[RM]')
    if (elsewhere and wanted or 'R' .. dest) == new then
      return false
    end
  end
  call('HSET', K .. 'pending', delivery, new)
  return true
end

local function act(id, number)
  local delivery = id .. '.' .. number
  local key = K .. 'm:' .. id
  local row = call('HMGET', key, 'd' .. number, 's' .. number, 'o', 'f', 'a', 'y', 'u' .. number,
    'h' .. number, 't')
  if not row[1] then
    local gone = has_moved() and call('HGET', K .. 'v:' .. id, number)
    local to = gone and string.match(gone, ' (%d+)$')
    return to and -1 - to or 0
  end
  local dest = string.match(row[1], '^[^\n]*')
  if call('HEXISTS', K .. 'leased', delivery) == 1 then
    return remember(delivery, dest) and 1 or 0
  end
  if has_moved() and call('ZSCORE', K .. 'moving', delivery) then
    return 2
  end
  local due, held, tenant = due_of(row[7], row[5], row[6]), row[8], row[9] or ''
  local function take_out()
    if held then
      unhold(dest, id, number)
    else
      displace(dest, delivery, due, tenant)
    end
  end
  if what == 't' then
    if held or tonumber(due) <= now then
      return 0
    end
    displace(dest, delivery, due, tenant)
    call('HSET', key, 'u' .. number, NOW16)
    place(dest, delivery, NOW16)
  elseif what == 'h' then
    if held == value then
      return 0
    end
    if not held then
      displace(dest, delivery, due, tenant)
    end
    hold(dest, id, number, value)
  elseif what == 'l' then
    if not held then
      return 0
    end
    unhold(dest, id, number)
    place(dest, delivery, due)
  elseif what == 'R' then
    if value == dest then
      return 0
    end
    take_out()
    redirect(id, number, dest, value, row[1])
    if held then
      hold(value, id, number, held)
    else
      place(value, delivery, due)
    end
  elseif what == 'M' then
    local partition, to = string.match(value, '^(%d+) (.*)$')
    take_out()
    redirect(id, number, dest, to, row[1])
    if held then
      call('HSET', key, 'h' .. number, held)
    end
    leave(id, number, partition)
  elseif what == 'b' then
    take_out()
    local progress = read_progress(row[2])
    progress.bounce = true
    due = tonumber(due) > now and NOW16 or due
    call('HSET', key, 's' .. number, write_progress(progress), 'u' .. number, due)
    place(dest, delivery, due)
  else
    take_out()
    remove(id, number, dest, row[1], { o = row[3], f = row[4], a = row[5], s = row[2] })
  end
  return 1
end

call('ZREM', K .. 'ends', '') -- as in lease.lua
local results = {}
for at = 7, #ARGV, 2 do
  local did = act(ARGV[at], ARGV[at + 1])
  if did == 1 then
    call('RPUSH', K .. 'j:' .. ARGV[at], NOW .. '\n' .. event)
    followed[#followed + 1] = ARGV[at]
  end
  results[#results + 1] = did
  -- The same delivery may be named again.
  publish_placed()
end
file_displaced()
publish_ended()
write_counts()
tell_followers()
return results
