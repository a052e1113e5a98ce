-- What has been left behind on its way to another partition.

local SEEN = 1000 -- names of one call

-- Goes through a sorted set, oldest first, past what goes where nothing can go now. `from` is how many to leave
-- out at the beginning, `since` how old they must be, `most` how many are wanted, `place` where in ARGV the
-- partitions begin that are away, and `to` tells where a name goes. Returns names, and with how many left out to go
-- on, or nil at the end.
local function left_behind(key, from, since, most, place, to)
  local away, names = {}, {}
  for at = place, #ARGV do
    away[ARGV[at]] = true
  end
  local seen = place > #ARGV and most or SEEN
  local found = call('ZRANGE', key, us(from), us(from + seen - 1), 'WITHSCORES')
  for at = 1, #found, 2 do
    if tonumber(found[at + 1]) > since then
      return names, nil
    elseif #names == most then
      return names, from + (at - 1) / 2
    elseif not away[to(found[at])] then
      names[#names + 1] = found[at]
    end
  end
  return names, #found == 2 * seen and from + seen or nil
end
