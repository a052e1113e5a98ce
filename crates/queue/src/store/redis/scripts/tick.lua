-- What happens by itself when its time has come, a bounded number at a time: for expire, and for
-- lease, which must not overlook what has become due.

-- Ends holds whose time is over. Returns how many.
local function end_holds()
  local over = call('ZRANGEBYSCORE', K .. 'held', '-inf', NOW, 'LIMIT', 0, 100)
  for _, delivery in ipairs(over) do
    local id, number = string.match(delivery, '^([^.]*)%.(%d+)$')
    local row = call('HMGET', K .. 'm:' .. id, 'd' .. number, 'u' .. number, 'a', 'y')
    if row[1] then
      local dest = string.match(row[1], '^[^\n]*')
      unhold(dest, id, number)
      place(dest, delivery, due_of(row[2], row[3], row[4]))
    else
      call('ZREM', K .. 'held', delivery)
    end
  end
  publish_placed()
  return #over
end

-- Ends a suspension: what it has parked is to be placed again. Returns whether there was one.
local function end_suspension(id)
  local what = call('HGET', K .. 'suspended', id)
  if not what then
    return false
  end
  call('HDEL', K .. 'suspended', id)
  call('HDEL', K .. 'suspensions', id)
  call('ZREM', K .. 'suspension-ends', id)
  stops = nil
  if call('EXISTS', K .. 'parked:' .. id) == 1 then
    -- Its name may be used again before everything is placed.
    local name = us(call('INCR', K .. 'parkings'))
    call('RENAME', K .. 'parked:' .. id, K .. 'parked-before:' .. name)
    call('RPUSH', K .. 'resumed', name)
    timer()
  end
  local dest = string.match(what, '^[^\n]*')
  if dest ~= '' and first_ready(dest) and not suspensions().whole[dest] then
    file(dest, oldest_ready(dest))
    wake(dest)
  end
  return true
end

local function end_suspensions()
  for _, id in ipairs(call('ZRANGEBYSCORE', K .. 'suspension-ends', '-inf', NOW)) do
    end_suspension(id)
  end
end

-- Places what ended suspensions had parked. Returns whether that was all.
local function place_parked()
  local name = call('LINDEX', K .. 'resumed', 0)
  if not name then
    return true
  end
  local parked = call('ZPOPMIN', K .. 'parked-before:' .. name, 256)
  for at = 1, #parked, 2 do
    local delivery = parked[at]
    local id, number = string.match(delivery, '^([^.]*)%.(%d+)$')
    local row = call('HMGET', K .. 'm:' .. id, 'd' .. number, 'u' .. number, 'a', 'y', 'h' .. number)
    -- It may have ended, or be held, or have come back by another way, or be about to leave.
    if row[1] and not row[5] and call('HEXISTS', K .. 'leased', delivery) == 0
      and not call('ZSCORE', K .. 'moving', delivery) then
      place(string.match(row[1], '^[^\n]*'), delivery, due_of(row[2], row[3], row[4]))
    end
  end
  publish_placed()
  if #parked < 512 then
    call('LPOP', K .. 'resumed')
  end
  return call('EXISTS', K .. 'resumed') == 0
end

-- Makes ready what has become due, at a hundred destinations at most. Returns whether that was all.
local function move_all_due()
  local dests = call('ZRANGEBYSCORE', K .. 'later', '-inf', NOW, 'LIMIT', 0, 100)
  local all = #dests < 100
  for _, dest in ipairs(dests) do
    all = move_due(dest, 256) and all
  end
  return all
end
