-- Ends leases, for give_back, expire and lease.

-- Ends one lease. What is still leased under it is due again at once; with `lost`, the event for
-- the journey, it counts as an attempt of which nobody knows the outcome.
local function reclaim(token, lost)
  local lease = K .. 'l:' .. token
  local fields = call('HGETALL', lease)
  call('ZREM', K .. 'ends', token)
  call('UNLINK', lease)
  local worker, dest, slots
  local deliveries = {}
  for at = 1, #fields, 2 do
    local name, value = fields[at], fields[at + 1]
    if name == 'w' then
      worker = value
    elseif name == 'd' then
      dest = value
    elseif name == 'n' then
      slots = value
    else
      deliveries[#deliveries + 1] = { name, string.match(value, '^%d+') }
    end
  end
  if not dest then
    return
  end
  for _, pair in ipairs(deliveries) do
    local delivery, due = pair[1], pair[2]
    local id, number = string.match(delivery, '^([^.]*)%.(%d+)$')
    local key = K .. 'm:' .. id
    local row = call('HMGET', key, 'd' .. number, 's' .. number, 'o', 'i', 'x', 'f')
    local attempts, flag = string.match(row[2] or '0', '^(%d+)(.*)$')
    local wanted = call('HGET', K .. 'pending', delivery)
    call('HDEL', K .. 'leased', delivery)
    call('HDEL', K .. 'pending', delivery)
    if row[1] and lost then
      attempts = attempts + 1
      due = NOW
      count('unknown', 1)
      call('RPUSH', K .. 'j:' .. id, due .. '\n' .. lost)
      followed[#followed + 1] = id
    end
    if not row[1] then
      -- The message has ended: nothing is due.
    elseif wanted == 'r' then
      local _, recipients = string.gsub(row[1], '\n', '')
      count('removed', recipients)
      count('open', -recipients)
      finish(id, number, dest, { o = row[3], i = row[4], x = row[5], f = row[6] })
    else
      if wanted == 'b' then
        flag, due = 'b', NOW
      end
      call('HSET', key, 's' .. number, attempts .. flag)
      call('ZADD', K .. (wanted == 'h' and 'held' or 'due:' .. dest), due, delivery)
    end
  end
  call('HDEL', K .. 'w:' .. worker, dest)
  if call('HINCRBY', K .. 'slots', dest, -slots) <= 0 then
    call('HDEL', K .. 'slots', dest)
  end
  if file(dest) then
    wake(dest)
  end
end

-- Ends leases whose time is over, at most a hundred. Returns how many.
local function expire_leases(lost)
  local over = call('ZRANGEBYSCORE', K .. 'ends', '-inf', NOW, 'LIMIT', 0, 100)
  for _, token in ipairs(over) do
    reclaim(token, lost)
  end
  if #over > 0 then
    publish_ended()
    write_counts()
    tell_followers()
  end
  return #over
end
