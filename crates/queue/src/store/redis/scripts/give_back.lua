-- Ends leases that their holders give back.
--   ARGV[4...] tokens
-- Returns how many deliveries leave for other partitions now.
-- A lease whose time is over is left to expire.lua: its holder may not speak for it any more.

call('ZREM', K .. 'ends', '') -- as in lease.lua
for at = 4, #ARGV do
  local until_us = call('ZSCORE', K .. 'ends', ARGV[at])
  if until_us and tonumber(until_us) > now then
    reclaim(ARGV[at])
  end
end
publish_ended()
write_counts()
tell_followers()
return leaving
