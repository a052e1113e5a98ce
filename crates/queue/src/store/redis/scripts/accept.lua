-- Makes messages durable, for enqueue and for the DSNs of a completion. A message in ARGV:
--   queue id, record, inline body ('' if none), name of a stored body ('' if none),
--   Message-ID ('' if none), journey header,
--   number of earlier journey events, each event, the Queued event,
--   number of deliveries, each: destination, number of recipients,
--   "destination\naddress\naddress..."

local function after_message(at)
  local deliveries = at + 8 + ARGV[at + 6]
  return deliveries + 1 + 3 * ARGV[deliveries]
end

-- New deliveries by destination: score, member, score, member...
local fresh = {}
local index = {}

-- Files a message under its Message-ID, newest first. Messages that share one are marked, so that
-- the others' end looks after it (finish.lua). Returns whether it is shared.
local function index_by_message_id(message_id, id)
  local named = K .. 'i:' .. message_id
  if call('LPUSH', named, id) == 1 then
    return false
  end
  call('LTRIM', named, 0, 99)
  call('PERSIST', named)
  local before = call('LINDEX', named, 1)
  if before and call('EXISTS', K .. 'm:' .. before) == 1 then
    call('HSET', K .. 'm:' .. before, 'x', 1)
  end
  return true
end

-- Returns whether the message at ARGV[at] was not known yet.
local function accept(at)
  local id = ARGV[at]
  local journey = K .. 'j:' .. id
  local queued = at + 7 + ARGV[at + 6]
  local number = tonumber(ARGV[queued + 1])

  local events = { ARGV[at + 5] }
  for event = at + 7, queued - 1 do
    events[#events + 1] = ARGV[event]
  end
  events[#events + 1] = NOW .. '\n' .. ARGV[queued]
  if call('RPUSH', journey, unpack(events)) > #events then
    -- There was a journey: the message is known. Most are not, and are spared a question.
    call('RPOP', journey, #events)
    return false
  end

  local fields = { 'm', ARGV[at + 1], 'a', NOW }
  if ARGV[at + 2] ~= '' then
    fields[#fields + 1] = 'b'
    fields[#fields + 1] = ARGV[at + 2]
  end
  if ARGV[at + 3] ~= '' then
    fields[#fields + 1] = 'f'
    fields[#fields + 1] = ARGV[at + 3]
    call('HINCRBY', K .. 'bodies', ARGV[at + 3], 1)
    call('SREM', K .. 'ended-bodies', ARGV[at + 3])
  end
  if ARGV[at + 4] ~= '' then
    fields[#fields + 1] = 'i'
    fields[#fields + 1] = ARGV[at + 4]
    if index_by_message_id(ARGV[at + 4], id) then
      fields[#fields + 1] = 'x'
      fields[#fields + 1] = 1
    end
  end
  if number > 1 then
    fields[#fields + 1] = 'n'
    fields[#fields + 1] = number
    fields[#fields + 1] = 'o'
    fields[#fields + 1] = number
  end
  local recipients = 0
  for delivery = 0, number - 1 do
    local from = queued + 2 + 3 * delivery
    local dest = ARGV[from]
    fields[#fields + 1] = 'd' .. delivery
    fields[#fields + 1] = ARGV[from + 2]
    recipients = recipients + ARGV[from + 1]
    local list = fresh[dest]
    if not list then
      list = {}
      fresh[dest] = list
    end
    list[#list + 1] = NOW
    list[#list + 1] = id .. '.' .. delivery
    load[dest] = (load[dest] or 0) + 1
  end
  call_all('HSET', K .. 'm:' .. id, fields)

  index[#index + 1] = 0
  index[#index + 1] = id
  followed[#followed + 1] = id
  count('accepted', recipients)
  count('open', recipients)
  count('deliveries', number)
  return true
end

-- Makes what was accepted visible. Destinations that had a due delivery already are filed and
-- have been told of.
local function publish_accepted()
  call_all('ZADD', K .. 'index', index)
  for dest, list in pairs(fresh) do
    local due = K .. 'due:' .. dest
    local head = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
    call_all('ZADD', due, list)
    if not head or tonumber(head) > now then
      file(dest)
      wake(dest)
    end
  end
end
