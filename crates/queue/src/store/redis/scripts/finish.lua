-- The end of deliveries and of messages, for complete, act and reclaim.

local ended = {}

-- Ends one delivery; with its last one, the message. `message` holds the fields o, i, x, f of
-- its record. ARGV[2] is how long journeys are kept, in milliseconds.
local function finish(id, number, dest, message)
  local key = K .. 'm:' .. id
  load[dest] = (load[dest] or 0) - 1
  count('deliveries', -1)
  if message.o then
    -- Another delivery of this message may have ended earlier in this script.
    if call('HINCRBY', key, 'o', -1) > 0 then
      call('HDEL', key, 'd' .. number, 's' .. number, 'l' .. number)
      return
    end
  end
  call('UNLINK', key)
  ended[#ended + 1] = id
  call('PEXPIRE', K .. 'j:' .. id, ARGV[2])
  if message.f and call('HINCRBY', K .. 'bodies', message.f, -1) <= 0 then
    call('HDEL', K .. 'bodies', message.f)
    call('SADD', K .. 'ended-bodies', message.f)
  end
  if message.i then
    -- The Message-ID is forgotten with the last journey that it leads to.
    local named = K .. 'i:' .. message.i
    local ids = message.x and call('LRANGE', named, 0, -1) or {}
    for at = 1, #ids do
      if ids[at] ~= id and call('EXISTS', K .. 'm:' .. ids[at]) == 1 then
        return
      end
    end
    call('PEXPIRE', named, ARGV[2])
  end
end

local function publish_ended()
  call_all('ZREM', K .. 'index', ended)
  ended = {}
end
