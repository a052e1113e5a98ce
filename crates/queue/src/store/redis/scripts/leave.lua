-- Deliveries that leave for another partition, since they were re-routed to a destination of it.
--
-- One that leaves is in no order, and no lease reaches it. It stays in its message's record, and its
-- name in `moving`, until it is known to have arrived. `v:<queue id>` says of each delivery that has
-- moved how often, and which way it went if it went from here: so that whoever comes late, to carry
-- it or to ask for it, learns that this is past.

local leaving = 0

-- Whether anything has ever moved, from here or to here.
local moved
local function has_moved()
  if moved == nil then
    moved = call('HEXISTS', K .. 'count', 'moves') == 1
  end
  return moved
end

-- How often a delivery has moved, as far as is known here.
local function moves_of(id, number)
  return tonumber(string.match(call('HGET', K .. 'v:' .. id, number) or '', '^%d+') or 0)
end

-- Lets a delivery leave that is in no order and under no lease.
local function leave(id, number, partition)
  call('HSET', K .. 'v:' .. id, number, us(moves_of(id, number) + 1) .. ' ' .. partition)
  call('ZADD', K .. 'moving', NOW, id .. '.' .. number)
  count('moves', 1)
  moved = true
  leaving = leaving + 1
  timer()
end
