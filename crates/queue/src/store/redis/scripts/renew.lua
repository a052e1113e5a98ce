-- Prolongs leases.
--   ARGV[4] lease in microseconds, [5...] tokens
-- Returns the tokens whose lease is over.

local leases = K .. 'ends'
call('ZREM', leases, '') -- as in lease.lua
local stale = {}
for at = 5, #ARGV do
  local until_us = call('ZSCORE', leases, ARGV[at])
  if until_us and tonumber(until_us) > now then
    call('ZADD', leases, us(now + ARGV[4]), ARGV[at])
  else
    stale[#stale + 1] = ARGV[at]
  end
end
return stale
