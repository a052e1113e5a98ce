-- Ends leases, and what is leased under them, for give_back, give_back_part, expire and lease.

-- Ends one delivery's being leased. It is due again as it was, at `due`; with `lost`, the event for
-- the journey, at once: it counts as an attempt of which nobody knows the outcome, and `held` is the
-- event for what its destination's policy holds then.
local function unlease(delivery, due, dest, lost, held)
  local id, number = string.match(delivery, '^([^.]*)%.(%d+)$')
  local key = K .. 'm:' .. id
  local row = call('HMGET', key, 'd' .. number, 's' .. number, 'o', 'f', 'a')
  local wanted = call('HGET', K .. 'pending', delivery)
  call('HDEL', K .. 'leased', delivery)
  call('HDEL', K .. 'pending', delivery)
  if not row[1] then
    return
  end
  local progress = read_progress(row[2])
  if lost then
    progress.attempts = progress.attempts + 1
    due = NOW16
    add_unknown(progress)
    call('RPUSH', K .. 'j:' .. id, NOW .. '\n' .. lost)
    followed[#followed + 1] = id
  end
  if wanted == 'r' then
    remove(id, number, dest, row[1],
      { o = row[3], f = row[4], a = row[5], s = write_progress(progress) })
    return
  end
  local _, by_policy = put_back(id, number, dest, due, progress, wanted,
    lost and policy(dest).hold)
  if by_policy then
    call('RPUSH', K .. 'j:' .. id, NOW .. '\n' .. held)
  end
end

-- So many slots of a destination are free, and something may be due there.
local function free_slots(dest, slots)
  if slots > 0 and call('HINCRBY', K .. 'slots', dest, -slots) <= 0 then
    call('HDEL', K .. 'slots', dest)
  end
  publish_placed()
  if file(dest) then
    wake(dest)
  end
end

-- Ends one lease, and with it all that is still leased under it; see `unlease`.
local function reclaim(token, lost, held)
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
      slots = tonumber(value)
    else
      deliveries[#deliveries + 1] = { name, string.match(value, '^%d+') }
    end
  end
  if not dest then
    return
  end
  for _, pair in ipairs(deliveries) do
    unlease(pair[1], pair[2], dest, lost, held)
  end
  call('HDEL', K .. 'w:' .. worker, dest)
  call('SREM', K .. 'at:' .. dest, token)
  free_slots(dest, slots)
end

-- Ends leases whose time is over, at most a hundred. Returns how many.
local function expire_leases(lost, held)
  local over = call('ZRANGEBYSCORE', K .. 'ends', '-inf', NOW, 'LIMIT', 0, 100)
  for _, token in ipairs(over) do
    reclaim(token, lost, held)
  end
  if #over > 0 then
    publish_ended()
    write_counts()
    tell_followers()
  end
  return #over
end
