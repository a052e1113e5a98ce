-- Parts of messages that belong to other partitions lie in the outbox until they are there.

-- Puts the message at ARGV[at] into the outbox, with the stored body that it names.
local function post(at, partition)
  local name = ARGV[at + 1] .. '.' .. partition
  local args = {}
  for arg = at, after_message(at) - 1 do
    args[#args + 1] = ARGV[arg]
  end
  call('DEL', K .. 'o:' .. name)
  call_all('RPUSH', K .. 'o:' .. name, args)
  call('ZADD', K .. 'outbox', NOW, name)
  if ARGV[at + 3] ~= '' then
    call('HINCRBY', K .. 'bodies', ARGV[at + 3], 1)
    call('SREM', K .. 'ended-bodies', ARGV[at + 3])
  end
  timer()
end
