-- Ends leases whose time is over and tells of deliveries that have become due, a bounded number at
-- a time.
--   ARGV[2] journey retention in milliseconds, [3] the event for journeys
-- Returns microseconds until there is something to do again, or nil.

local over = expire_leases(ARGV[3])
local due = call('ZRANGEBYSCORE', K .. 'later', '-inf', NOW, 'LIMIT', 0, 1000)
for _, dest in ipairs(due) do
  call('ZREM', K .. 'later', dest)
  wake(dest)
end
if over == 100 or #due == 1000 then
  return '0'
end
local next_us
for _, key in ipairs({ 'ends', 'later' }) do
  local first = tonumber(call('ZRANGE', K .. key, 0, 0, 'WITHSCORES')[2])
  if first and (not next_us or first < next_us) then
    next_us = first
  end
end
return next_us and us(math.max(0, next_us - now))
