-- Prolongs leases.
--   ARGV[2] lease in microseconds, [3...] tokens
-- Returns the tokens whose lease is over.

local leases = K .. 'ends'
call('ZREM', leases, '') -- as in lease.lua
local stale = {}
for at = 3, #ARGV do
  local until_us = call('ZSCORE', leases, ARGV[at])
  if until_us and tonumber(until_us) > now then
    call('ZADD', leases, us(now + ARGV[2]), ARGV[at])
  else
    stale[#stale + 1] = ARGV[at]
  end
end
return stale
