-- Remembers a message that comes from another store, in a partition that it would come to if it were
-- accepted anew, and in which it has nothing open: so that it is known there.
--   ARGV[4] queue id, [5] when it has been tried for long enough, [6...] items with which its journey begins

local journey = K .. 'j:' .. ARGV[4]
if call('EXISTS', journey) == 0 then
  for item = 6, #ARGV do
    call('RPUSH', journey, ARGV[item])
  end
  call('PEXPIRE', journey, us(ARGV[2] + math.max(0, (ARGV[5] - now) / 1000)))
end
-- Written even if it was known: a wait for replicas must have a write to wait for.
write_counts()
return 1
