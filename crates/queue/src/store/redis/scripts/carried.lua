-- Parts that have arrived where they belong leave the outbox.
--   ARGV[4...] their names, <queue id>.<partition>

for at = 4, #ARGV do
  local key = K .. 'o:' .. ARGV[at]
  local body = call('LINDEX', key, 3)
  if body and body ~= '' and call('HINCRBY', K .. 'bodies', body, -1) <= 0 then
    call('HDEL', K .. 'bodies', body)
    call('SADD', K .. 'ended-bodies', body)
  end
  call('DEL', key)
  call('ZREM', K .. 'outbox', ARGV[at])
end
return 1
