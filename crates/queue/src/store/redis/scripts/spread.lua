-- Accepts a message that has deliveries in several partitions, here in its home.
--   ARGV[4...] the message as in accept.lua, with its deliveries of this partition,
--   number of parts for others, each: partition, the message with its deliveries there
-- Returns as enqueue.lua.

local at = after_message(4)
local result = accept(4)
if result == 1 then
  local part = at + 1
  for _ = 1, tonumber(ARGV[at]) do
    post(part + 1, ARGV[part])
    part = after_message(part + 1)
  end
end
publish_accepted()
publish_placed()
write_counts()
tell_followers()
return result
