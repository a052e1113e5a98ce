-- Takes in deliveries that have left other partitions, since they were re-routed to destinations of this one.
--   ARGV[4] number of deliveries, each:
--     queue id, how often the delivery has moved with this time, 1 if its content is missing where it
--     comes from; as in stand.lua the size of its content (a command before the script has
--     written it), name of a stored body, reverse-path, tenant, priority, time before which it is not
--     attempted, time of acceptance, and OPEN arguments of the delivery;
--     number of names to find the message by, each,
--     number of items with which its journey begins, each
-- Returns for each 1 if it is here now, 0 if it was before, perhaps long ago, 2 if its content is missing.

local BODY, DELIVERY = 3, 10 -- places of arguments
local HEAD = DELIVERY + OPEN

local function after_arrival(at)
  local items = at + HEAD + 1 + ARGV[at + HEAD]
  return items + 1 + ARGV[items]
end

-- A delivery comes back that is still on its way from here, as far as is known here: that it has moved since
-- says that it had arrived. What stands of it here goes, as in arrived.lua, but for its place in the record.
local function replace(id, number)
  local key = K .. 'm:' .. id
  local row = call('HMGET', key, 'd' .. number, 's' .. number)
  local _, recipients = string.gsub(row[1], '\n', '')
  count('accepted', -recipients)
  count('open', -recipients)
  uncount(string.match(row[1], '^[^\n]*'), row[2])
  call('HDEL', key, 'l' .. number, 'h' .. number)
end

-- Messages of which something has ended here. Another delivery of them may be among those that come.
local past = {}

local function arrive(at)
  local id, moves, number = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + DELIVERY]
  local journey, moved_here = K .. 'j:' .. id, K .. 'v:' .. id
  local there = call('EXISTS', K .. 'm:' .. id) == 1
  if moves_of(id, number) >= moves then
    past[#past + 1] = id
    return 0
  end
  if ARGV[at + 2] ~= '1' and call('EXISTS', K .. 'b:' .. id) == 0 then
    return 2
  end
  if there and call('ZREM', K .. 'moving', id .. '.' .. number) == 1 then
    replace(id, number)
  elseif there then
    extend(id, tonumber(number), 1)
  else
    record(id, at + BODY, number + 1, 1)
    local names = at + HEAD + 1
    local items = names + ARGV[at + HEAD]
    file_names(names, items - 1, tonumber(ARGV[at + BODY + 6]))
    if call('PERSIST', journey) == 0 and call('EXISTS', journey) == 0 then
      for item = items + 1, items + ARGV[items] do
        call('RPUSH', journey, ARGV[item])
      end
      -- What was meant for here at first may have come and ended.
      if call('HEXISTS', moved_here, 'k') == 0 then
        call('HSET', moved_here, 'o', ARGV[items])
      end
    end
    call('PERSIST', moved_here)
  end
  call('HSET', moved_here, number, us(moves))
  count('moves', 1)
  local recipients = stand(at + DELIVERY, id, ARGV[at + BODY + 2], ARGV[at + BODY + 3],
    tonumber(ARGV[at + BODY + 4]))
  count('accepted', recipients)
  count('open', recipients)
  count('deliveries', 1)
  return 1
end

call('ZREM', K .. 'ends', '') -- as in lease.lua
local results = {}
local at = 5
for delivery = 1, tonumber(ARGV[4]) do
  results[delivery] = arrive(at)
  at = after_arrival(at)
end
for _, id in ipairs(past) do
  if call('EXISTS', K .. 'm:' .. id) == 0 then
    call('UNLINK', K .. 'b:' .. id) -- it was written for nothing
  end
end
publish_stood()
write_counts()
tell_followers()
return results
