-- Makes messages durable, for enqueue and for the DSNs of a completion. A message in ARGV:
--   content ('' if a command before the script has written it), queue id, size of the content,
--   name of a stored body ('' if none), reverse-path, tenant ('' if none), priority,
--   time before which it is not attempted (0: at once), journey header,
--   number of names to find it by, each,
--   number of earlier journey events, each event, the Queued event,
--   number of deliveries, each: its number, destination, number of recipients,
--   "destination\naddress\naddress..."
-- A message that has deliveries in other partitions as well has only those of this one here.

local function after_message(at)
  local events = at + 10 + ARGV[at + 9]
  local deliveries = events + 2 + ARGV[events]
  return deliveries + 1 + 4 * ARGV[deliveries]
end

-- Whether all contents that a command before the script has written are known to be there.
local all_there = false

local index = {}
-- Names to find messages by, by the piece in which they go.
local names, named = {}, 0

-- Accepts the message at ARGV[at] if it was not known yet. Returns 1 if so, 0 if it was known, 2 if
-- its content is not there.
local function accept(at)
  local id = ARGV[at + 1]
  local journey = K .. 'j:' .. id
  local before = at + 10 + ARGV[at + 9]
  local queued = before + 1 + ARGV[before]
  local number = tonumber(ARGV[queued + 1])

  local events = { ARGV[at + 8] }
  for event = before + 1, queued - 1 do
    events[#events + 1] = ARGV[event]
  end
  events[#events + 1] = NOW .. '\n' .. ARGV[queued]
  local there, brought, outlived = false, false, false
  if call('RPUSH', journey, unpack(events)) > #events then
    -- There was a journey: the message is known. Most are not, and are spared a question.
    call('RPOP', journey, #events)
    there = call('EXISTS', K .. 'm:' .. id) == 1
    -- Unless all that is known of it has moved here from other partitions.
    brought = call('HEXISTS', K .. 'v:' .. id, 'o') == 1
    if not brought then
      if ARGV[at] == '' and not there then
        call('UNLINK', K .. 'b:' .. id) -- it has ended
      end
      return 0
    end
  elseif says_more() then
    local known = call('HMGET', K .. 'v:' .. id, 'k', 'o')
    if known[1] then
      call('DEL', journey)
      if ARGV[at] == '' then
        call('UNLINK', K .. 'b:' .. id) -- it has ended, and so has its journey
      end
      return 0
    end
    -- Unless all that was known of it had moved here; then its journey has gone since.
    outlived = known[2]
  end
  if ARGV[at] ~= '' then
    call('SET', K .. 'b:' .. id, ARGV[at])
  elseif not all_there and call('EXISTS', K .. 'b:' .. id) == 0 then
    if not brought then
      call('DEL', journey)
    end
    return 2
  end
  if brought or outlived then
    call('HDEL', K .. 'v:' .. id, 'o')
    call('PERSIST', K .. 'v:' .. id)
    call('PERSIST', journey)
  end

  local fields = { 'z', ARGV[at + 2], 'a', NOW }
  local function field(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  local sender, tenant, priority = ARGV[at + 4], ARGV[at + 5], tonumber(ARGV[at + 6])
  local due = NOW16
  if ARGV[at + 3] ~= '' and not there then
    field('f', ARGV[at + 3])
    call('HINCRBY', K .. 'bodies', ARGV[at + 3], 1)
    call('SREM', K .. 'ended-bodies', ARGV[at + 3])
  end
  if sender ~= '' then
    field('r', sender)
  end
  if tenant ~= '' then
    field('t', tenant)
  end
  if priority ~= 0 then
    field('p', priority)
  end
  if tonumber(ARGV[at + 7]) > now then
    due = digits(tonumber(ARGV[at + 7]))
    field('y', due)
  end
  local last = tonumber(ARGV[queued + 4 * number - 2])
  if there then
    fields = {}
    extend(id, last, number)
  else
    if last > 0 then
      field('n', last + 1)
    end
    if number > 1 then
      field('o', number)
    end
  end
  local recipients = 0
  for from = queued + 2, queued - 2 + 4 * number, 4 do
    local delivery, dest = ARGV[from], ARGV[from + 1]
    field('d' .. delivery, ARGV[from + 3])
    if there then
      field('u' .. delivery, due)
    end
    recipients = recipients + ARGV[from + 2]
    place(dest, id .. '.' .. delivery, due, sender, tenant, priority)
    load[dest] = (load[dest] or 0) + 1
  end
  call_all('HSET', K .. 'm:' .. id, fields)

  if not there then
    for name = at + 10, before - 1 do
      local piece = string.byte(ARGV[name]) % PIECES
      names[piece] = (names[piece] or '') .. ARGV[name]
    end
    named = named + 1
    index[#index + 1] = 0
    index[#index + 1] = id
  end
  followed[#followed + 1] = id
  count('accepted', recipients)
  count('open', recipients)
  count('deliveries', number)
  return 1
end

-- Makes what was accepted visible.
local function publish_accepted()
  call_all('ZADD', K .. 'index', index)
  index = {}
  local hour = hour_of(now)
  for piece, text in pairs(names) do
    call('APPEND', K .. 'f:' .. hour .. ':' .. piece, text)
  end
  if named > 0 and call('HINCRBY', K .. 'hours', hour, named) == named then
    call('ZREM', K .. 'past-hours', hour)
  end
  names, named = {}, 0
end
