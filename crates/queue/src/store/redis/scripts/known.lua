-- What is known of messages for a day at least, however short their journeys are kept: that they were accepted
-- here, and which moves their deliveries have made. Until then whoever could not hear that something has
-- arrived, since its node was away, may bring it again.

local KNOWN = string.format('%.0f', math.max(tonumber(ARGV[2]), 86400000)) -- milliseconds

-- Whether v:<queue id> may say what the journey does not.
local told
local function says_more()
  if told == nil then
    local found = call('HMGET', K .. 'count', 'moves', 'short')
    told = found[1] or found[2]
  end
  return told
end

-- Remembers a message that has ended, and will be known for longer than by its journey. Where only deliveries
-- have come by moves, what was meant for here at first may still come.
local function remember_ended(id)
  local moves = K .. 'v:' .. id
  if KNOWN ~= ARGV[2] and call('HEXISTS', moves, 'o') == 0 then
    call('HSET', moves, 'k', '1')
    count('short', 1)
    told = '1'
  end
  if says_more() then
    call('PEXPIRE', moves, KNOWN)
  end
end
