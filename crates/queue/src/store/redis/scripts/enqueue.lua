-- Accepts messages, each all or nothing.
--   ARGV[2]  number of messages; each as in accept.lua
-- Returns 1 for each that is new, 0 for each that was accepted before.

local results = {}
local at = 3
for message = 1, tonumber(ARGV[2]) do
  results[message] = accept(at) and 1 or 0
  at = after_message(at)
end
publish_accepted()
-- Written even if nothing was new: a wait for replicas must have a write to wait for.
write_counts()
tell_followers()
return results
