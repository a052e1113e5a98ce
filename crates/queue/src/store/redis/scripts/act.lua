-- An operator's act on deliveries that a filter has chosen; each is looked at again here, since it
-- may have changed in between.
--   ARGV[2] journey retention in milliseconds, [3] act: t retry, h hold, l release, r remove,
--   b bounce, [4] the event for journeys, [5...] pairs of queue id and number of the delivery
-- Returns 1 for each that changed, otherwise 0.

local what, event = ARGV[3], ARGV[4]
local changed = {} -- destinations

-- On a leased delivery the act is remembered until its attempt ends.
local function remember(delivery)
  local wanted = call('HGET', K .. 'pending', delivery)
  if what == 'l' then
    return wanted == 'h' and call('HDEL', K .. 'pending', delivery) == 1
  end
  if what == 't' or (what == 'h' and wanted == 'h') then
    return false
  end
  call('HSET', K .. 'pending', delivery, what)
  return true
end

local function act(id, number)
  local delivery = id .. '.' .. number
  local key = K .. 'm:' .. id
  local row = call('HMGET', key, 'd' .. number, 's' .. number, 'o', 'i', 'x', 'f')
  if not row[1] then
    return false
  end
  if call('HEXISTS', K .. 'leased', delivery) == 1 then
    return remember(delivery)
  end
  local dest = string.match(row[1], '^[^\n]*')
  local waits, held = K .. 'due:' .. dest, K .. 'held'
  local due = call('ZSCORE', waits, delivery)
  local hold = not due and call('ZSCORE', held, delivery)
  if not due and not hold then
    return false
  end
  changed[dest] = true
  if what == 't' then
    if not due or tonumber(due) <= now then
      return false
    end
    call('ZADD', waits, NOW, delivery)
  elseif what == 'h' then
    if hold then
      return false
    end
    call('ZREM', waits, delivery)
    call('ZADD', held, due, delivery)
  elseif what == 'l' then
    if due then
      return false
    end
    call('ZREM', held, delivery)
    call('ZADD', waits, hold, delivery)
  else
    call('ZREM', held, delivery)
    if what == 'b' then
      call('HSET', key, 's' .. number, string.match(row[2] or '0', '^%d+') .. 'b')
      call('ZADD', waits, us(math.min(now, tonumber(due or hold))), delivery)
    else
      local _, recipients = string.gsub(row[1], '\n', '')
      call('ZREM', waits, delivery)
      count('removed', recipients)
      count('open', -recipients)
      finish(id, number, dest, { o = row[3], i = row[4], x = row[5], f = row[6] })
    end
  end
  return true
end

call('ZREM', K .. 'ends', '') -- as in lease.lua
local results = {}
for at = 5, #ARGV, 2 do
  local did = act(ARGV[at], ARGV[at + 1])
  if did then
    call('RPUSH', K .. 'j:' .. ARGV[at], NOW .. '\n' .. event)
    followed[#followed + 1] = ARGV[at]
  end
  results[#results + 1] = did and 1 or 0
end
publish_ended()
for dest in pairs(changed) do
  if file(dest) then
    wake(dest)
  end
end
write_counts()
tell_followers()
return results
