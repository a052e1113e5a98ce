-- Deliveries that come from elsewhere, and stand here as they stood there.

local OPEN = 8 -- arguments of each

local index = {}
local filed, named = {}, {} -- by hour: names to find messages by, by piece; messages

local function file_names(first, last, accepted)
  local hour = hour_of(accepted)
  filed[hour] = filed[hour] or {}
  named[hour] = (named[hour] or 0) + 1
  for name = first, last do
    local piece = string.byte(ARGV[name]) % PIECES
    filed[hour][piece] = (filed[hour][piece] or '') .. ARGV[name]
  end
end

-- Makes a message's record, without deliveries. `from` is where these are in ARGV: size of the
-- content, name of a stored body ('' if none), reverse-path, tenant, priority, time before which it
-- is not attempted (0: none), time of acceptance. `number` is that of its deliveries, `open` of those that are open.
local function record(id, from, number, open)
  local fields = { 'z', ARGV[from], 'a', ARGV[from + 6] }
  local function field(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  local body, release = ARGV[from + 1], tonumber(ARGV[from + 5])
  if body ~= '' then
    field('f', body)
    call('HINCRBY', K .. 'bodies', body, 1)
    call('SREM', K .. 'ended-bodies', body)
  end
  if ARGV[from + 2] ~= '' then
    field('r', ARGV[from + 2])
  end
  if ARGV[from + 3] ~= '' then
    field('t', ARGV[from + 3])
  end
  if tonumber(ARGV[from + 4]) ~= 0 then
    field('p', ARGV[from + 4])
  end
  if release ~= 0 then
    field('y', digits(release))
  end
  if number > 1 then
    field('n', number)
  end
  if open > 1 then
    field('o', open)
  end
  call_all('HSET', K .. 'm:' .. id, fields)
  index[#index + 1] = 0
  index[#index + 1] = id
end

-- Lets the delivery at ARGV[at] stand as it stood: number, destination, recipients, d<n>, s<n>, l<n>,
-- due time, end of its hold (0: when released; '' if it is not held). Returns its open recipients.
local function stand(at, id, sender, tenant, priority)
  local key, number, dest = K .. 'm:' .. id, ARGV[at], ARGV[at + 1]
  local due = digits(tonumber(ARGV[at + 6]))
  call('HSET', key, 'd' .. number, ARGV[at + 3], 's' .. number, ARGV[at + 4], 'u' .. number, due)
  if ARGV[at + 5] ~= '' then
    call('HSET', key, 'l' .. number, ARGV[at + 5])
  end
  if read_progress(ARGV[at + 4]).unknown > 0 then
    count('unsure', 1)
  end
  load[dest] = (load[dest] or 0) + 1
  if ARGV[at + 7] == '' then
    place(dest, id .. '.' .. number, due, sender, tenant, priority)
  else
    hold(dest, id, number, ARGV[at + 7])
  end
  return tonumber(ARGV[at + 2])
end

-- Makes it all visible.
local function publish_stood()
  call_all('ZADD', K .. 'index', index)
  for hour, pieces in pairs(filed) do
    for piece, text in pairs(pieces) do
      call('APPEND', K .. 'f:' .. hour .. ':' .. piece, text)
    end
    if call('HINCRBY', K .. 'hours', hour, named[hour]) == named[hour] then
      call('ZREM', K .. 'past-hours', hour)
    end
  end
  publish_placed()
end
