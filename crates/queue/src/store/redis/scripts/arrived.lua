-- Deliveries that have arrived where they moved to are no more here.
--   ARGV[4...] each: queue id, number, what v:<queue id> says of it: otherwise that is past

call('ZREM', K .. 'ends', '') -- as in lease.lua
for at = 4, #ARGV, 3 do
  local id, number = ARGV[at], ARGV[at + 1]
  local key = K .. 'm:' .. id
  if call('HGET', K .. 'v:' .. id, number) == ARGV[at + 2]
    and call('ZREM', K .. 'moving', id .. '.' .. number) == 1 then
    local row = call('HMGET', key, 'd' .. number, 's' .. number, 'o', 'f', 'a', 'y')
    local dest = string.match(row[1], '^[^\n]*')
    local _, recipients = string.gsub(row[1], '\n', '')
    count('accepted', -recipients)
    count('open', -recipients)
    call('HDEL', key, 'h' .. number)
    finish(id, number, dest, { o = row[3], f = row[4], a = row[5], s = row[2] })
    if call('EXISTS', key) == 0 then
      -- What happened here is told until it is all over elsewhere.
      local ends = math.max(tonumber(row[5]), tonumber(row[6] or 0)) + policy(dest).lifetime
      local keep = us(ARGV[2] + math.max(0, (ends - now) / 1000))
      call('PEXPIRE', K .. 'j:' .. id, keep)
      call('PEXPIRE', K .. 'v:' .. id, us(math.max(keep, KNOWN)))
    end
  end
end
publish_ended()
write_counts()
return 1
