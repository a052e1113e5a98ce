-- By what messages are found: a name is 8 bytes, a hash of an address or a Message-ID, and 16 bytes,
-- the queue id. Names of an hour lie in strings, by the first byte of the hash: `f:<hour>:<piece>`.
-- `hours` counts the messages of each hour that have not ended; an hour whose last has ended is in
-- `past-hours` until the last journey of it goes.

local PIECES = 64

local function hour_of(time)
  return string.format('%.0f', math.floor(time / 3600000000))
end
