-- Does what is to happen by itself, a bounded number at a time.
--   ARGV[4] the event for journeys of lost attempts, [5] the one for those that are held then
-- Returns microseconds until there is something to do again, or nil.

local over = expire_leases(ARGV[4], ARGV[5])
end_suspensions()
local holds = end_holds()
local all = place_parked() and over < 100 and holds < 100
all = move_all_due() and all
for _, hour in ipairs(call('ZRANGEBYSCORE', K .. 'past-hours', '-inf', NOW, 'LIMIT', 0, 10)) do
  for piece = 0, PIECES - 1 do
    call('UNLINK', K .. 'f:' .. hour .. ':' .. piece)
  end
  call('HDEL', K .. 'hours', hour)
  call('ZREM', K .. 'past-hours', hour)
end
if not all then
  return '0'
end
local next_us
for _, key in ipairs({ 'ends', 'later', 'held', 'suspension-ends' }) do
  local first = tonumber(call('ZRANGE', K .. key, 0, 0, 'WITHSCORES')[2])
  if first and first < math.huge and (not next_us or first < next_us) then
    next_us = first
  end
end
return next_us and us(math.max(0, next_us - now))
