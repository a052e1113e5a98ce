-- The end of deliveries and of messages.

local ended, ended_in = {}, {}

-- An open delivery counts no more. `progress` is its s<n>.
local function uncount(dest, progress)
  load[dest] = (load[dest] or 0) - 1
  count('deliveries', -1)
  if progress and string.find(progress, 'u', 1, true) then
    count('unsure', -1)
  end
end

-- Ends one delivery; with its last one, the message. `message` holds the fields o, f, a of its
-- record, and s<n> of the delivery.
local function finish(id, number, dest, message)
  local key = K .. 'm:' .. id
  uncount(dest, message.s)
  if message.o then
    -- Another delivery of this message may have ended earlier in this script.
    if call('HINCRBY', key, 'o', -1) > 0 then
      call('HDEL', key, 'd' .. number, 's' .. number, 'l' .. number, 'u' .. number)
      return
    end
  end
  call('UNLINK', key, K .. 'b:' .. id)
  ended[#ended + 1] = id
  local hour = hour_of(tonumber(message.a))
  ended_in[hour] = (ended_in[hour] or 0) + 1
  call('PEXPIRE', K .. 'j:' .. id, ARGV[2])
  remember_ended(id)
  if message.f and call('HINCRBY', K .. 'bodies', message.f, -1) <= 0 then
    call('HDEL', K .. 'bodies', message.f)
    call('SADD', K .. 'ended-bodies', message.f)
  end
end

local function publish_ended()
  call_all('ZREM', K .. 'index', ended)
  ended = {}
  for hour, number in pairs(ended_in) do
    if call('HINCRBY', K .. 'hours', hour, -number) <= 0 then
      call('ZADD', K .. 'past-hours', us(now + 1000 * ARGV[2]), hour)
    end
  end
  ended_in = {}
end
