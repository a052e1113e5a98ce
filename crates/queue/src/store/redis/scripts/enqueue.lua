-- Accepts messages, each all or nothing.
--   ARGV[4]  number of messages; each as in accept.lua
-- Returns for each 1 if it is new, 0 if it was accepted before, 2 if its content is missing.

local contents = {}
local at = 5
for message = 1, tonumber(ARGV[4]) do
  contents[message] = K .. 'b:' .. ARGV[at + 1]
  at = after_message(at)
end
all_there = #contents <= 2000 and call('EXISTS', unpack(contents)) == #contents

local results = {}
at = 5
for message = 1, tonumber(ARGV[4]) do
  results[message] = accept(at)
  at = after_message(at)
end
publish_accepted()
publish_placed()
-- Written even if nothing was new: a wait for replicas must have a write to wait for.
write_counts()
tell_followers()
return results
