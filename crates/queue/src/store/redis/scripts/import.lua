-- Takes messages in from another store, each all or nothing, as they stood there.
--   ARGV[4] number of messages; each:
--     queue id, size of the content (a command before the script has written it), name of a stored
--     body ('' if none), reverse-path, tenant, priority, time before which it is not attempted (0: none),
--     time of acceptance, deliveries in all, recipients delivered, failed, removed so far,
--     number of names to find it by, each,
--     number of items of its journey, each as it lies there,
--     number of open deliveries, each: number, destination, recipients, d<n>, s<n>, l<n>, due time,
--       end of its hold (0: when released; '' if it is not held)
-- Returns for each 1 if it is new, 0 if it was known, 2 if its content is missing.

local HEAD = 12

local function after_import(at)
  local items = at + HEAD + 1 + ARGV[at + HEAD]
  local open = items + 1 + ARGV[items]
  return open + 1 + OPEN * ARGV[open]
end

-- Places in ARGV of the open deliveries that have not come here by a move.
local function to_stand(at, id, brought)
  local places, last = {}, 0
  for place = at + 1, at + OPEN * ARGV[at], OPEN do
    if not brought or call('HEXISTS', K .. 'v:' .. id, ARGV[place]) == 0 then
      places[#places + 1] = place
      last = tonumber(ARGV[place])
    end
  end
  return places, last
end

-- Writes the journey; what has happened here since a move has brought its beginning comes after it.
local function write_journey(id, first, last, brought)
  local journey = K .. 'j:' .. id
  local since = {}
  if brought then
    since = call('LRANGE', journey, brought, -1)
    call('DEL', journey)
    call('HDEL', K .. 'v:' .. id, 'o')
    call('PERSIST', K .. 'v:' .. id)
  end
  for item = first, last do
    call('RPUSH', journey, ARGV[item])
  end
  call_all('RPUSH', journey, since)
end

local function import(at)
  local id = ARGV[at]
  local there = call('EXISTS', K .. 'm:' .. id) == 1
  -- How many items of its journey moves have brought, if nothing else of it has come here.
  local brought = call('HGET', K .. 'v:' .. id, 'o')
  local items = at + HEAD + 1 + ARGV[at + HEAD]
  local open = items + 1 + ARGV[items]
  local places, last = to_stand(open, id, brought)
  if #places == 0 or (not brought and (call('EXISTS', K .. 'j:' .. id) == 1
    or call('HEXISTS', K .. 'v:' .. id, 'k') == 1)) then
    if not there then
      call('UNLINK', K .. 'b:' .. id) -- it has ended
    end
    return 0
  end
  if call('EXISTS', K .. 'b:' .. id) == 0 then
    return 2
  end
  write_journey(id, items + 1, open - 1, brought)
  if there then
    extend(id, last, #places)
  else
    record(id, at + 1, tonumber(ARGV[at + 8]), #places)
    file_names(at + HEAD + 1, items - 1, tonumber(ARGV[at + 7]))
  end
  local sender, tenant, priority = ARGV[at + 3], ARGV[at + 4], tonumber(ARGV[at + 5])
  local recipients = 0
  for _, place in ipairs(places) do
    recipients = recipients + stand(place, id, sender, tenant, priority)
  end
  followed[#followed + 1] = id
  count('accepted', recipients + ARGV[at + 9] + ARGV[at + 10] + ARGV[at + 11])
  count('delivered', tonumber(ARGV[at + 9]))
  count('failed', tonumber(ARGV[at + 10]))
  count('removed', tonumber(ARGV[at + 11]))
  count('open', recipients)
  count('deliveries', #places)
  return 1
end

local results = {}
local at = 5
for message = 1, tonumber(ARGV[4]) do
  results[message] = import(at)
  at = after_import(at)
end
publish_stood()
write_counts()
tell_followers()
return results
