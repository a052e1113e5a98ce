-- Takes parts of leases back, which go on.
--   ARGV[4...] of each: token, slots that it keeps, number of deliveries, these deliveries
-- Returns how many deliveries leave for other partitions now.
-- A lease whose time is over is left to expire.lua, as in give_back.lua.

call('ZREM', K .. 'ends', '') -- as in lease.lua

local function take_back(token, keeps, first, last)
  local lease = K .. 'l:' .. token
  local fields = call('HMGET', lease, 'd', 'n')
  local dest, slots = fields[1], tonumber(fields[2])
  for at = first, last do
    local value = call('HGET', lease, ARGV[at])
    if value then
      call('HDEL', lease, ARGV[at])
      unlease(ARGV[at], string.match(value, '^%d+'), dest)
    end
  end
  if keeps < slots then
    call('HSET', lease, 'n', keeps)
  end
  free_slots(dest, math.max(0, slots - keeps))
end

local at = 4
while at <= #ARGV do
  local token, number = ARGV[at], tonumber(ARGV[at + 2])
  local until_us = call('ZSCORE', K .. 'ends', token)
  if until_us and tonumber(until_us) > now then
    take_back(token, tonumber(ARGV[at + 1]), at + 3, at + 2 + number)
  end
  at = at + 3 + number
end
publish_ended()
write_counts()
tell_followers()
return leaving
