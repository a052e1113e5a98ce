-- Where waiting deliveries lie, and in which order they leave.
--
-- `later:<destination>` holds what is to become due, by time; `ready:<destination>` what is due, in
-- the order in which it leaves; one such set for each tenant. A member of `ready` is its due time
-- in 16 digits, then the delivery: what has the same tag leaves in the order in which it became
-- due.
--
-- Senders share by start-time fair queueing. A delivery's tag is V, or the tag after the one that its
-- sender got last (F) if that is more, less 32 for each step of priority. V grows with what is
-- served: to its tags, and by a turn when as many have left as are ready. So a sender with many
-- waiting takes turns with all others, and what is put off comes up when V has passed it.
-- While few are ready and none has a priority, tags are all alike, no books are kept, and the
-- hash `fair:<destination>` is not there.
--
-- Tenants share by the same means: `shares:<destination>` holds each tenant that has something
-- ready by its tag, which grows by 1 / weight with each delivery that leaves. It is not there
-- while all is of no tenant.
--
-- Fields of `fair`, each followed by a tenant: v V, o the tag with which a tenant left; f F, with
-- tenant and sender; w the tag of the tenant that was served last, c a cursor.

-- A due time in 16 digits.
local function digits(time)
  return string.format('%016.0f', time)
end

local UNFAIR = 64 -- so many may be ready before books are kept
local STEP = 32   -- what a step of priority overtakes

-- Suspensions, by what the scripts ask: whole destinations, and the rest.
local stops
local function suspensions()
  if not stops then
    stops = { whole = {}, some = {} }
    local all = call('HGETALL', K .. 'suspended')
    for at = 1, #all, 2 do
      local dest, sender, tenant = string.match(all[at + 1], '^([^\n]*)\n([^\n]*)\n(.*)$')
      if sender == '' and tenant == '' then
        stops.whole[dest] = true
      else
        stops.some[#stops.some + 1] = { id = all[at], dest = dest, sender = sender, tenant = tenant }
      end
    end
  end
  return stops
end

-- The suspension that stops a delivery at a destination that is not suspended as a whole, if any.
local function stopped(dest, sender, tenant)
  sender = string.lower(sender)
  for _, stop in ipairs(stops.some) do
    local from = stop.sender
    if (stop.dest == '' or stop.dest == dest) and (stop.tenant == '' or stop.tenant == tenant)
      and (from == '' or from == sender or (from == '<>' and sender == '')
        or (string.sub(from, 1, 1) == '@' and string.sub(sender, -#from) == from)) then
      return stop.id
    end
  end
end

local function ready_of(dest, tenant)
  if tenant == '' then
    return K .. 'ready:' .. dest
  end
  return K .. 'ready:' .. dest .. ' ' .. tenant
end

-- The first that is ready: its member, or nil.
local function first_ready(dest)
  local first = call('ZRANGE', K .. 'ready:' .. dest, 0, 0)[1]
  if not first then
    local tenant = call('ZRANGE', K .. 'shares:' .. dest, 0, 0)[1]
    first = tenant and call('ZRANGE', ready_of(dest, tenant), 0, 0)[1]
  end
  return first
end

-- Files a destination after what is ready there or its slots have changed: under `waits` while it
-- has something due and a free slot and is not suspended, by since when it waits: 16 digits, which
-- count if they are earlier than those by which it is filed; without, since now, when it was
-- served. Returns whether it is filed.
local function file(dest, since)
  local waits = K .. 'waits:' .. string.match(dest, '^[^:]*')
  if first_ready(dest) and tonumber(call('HGET', K .. 'slots', dest) or 0) < LIMIT
    and not suspensions().whole[dest] then
    if since then
      call('ZADD', waits, 'LT', since, dest)
    else
      call('ZADD', waits, NOW16, dest)
    end
    return true
  end
  call('ZREM', waits, dest)
  return false
end

-- Since when the oldest of the first few that are ready is due: 16 digits.
local function oldest_ready(dest)
  local oldest = NOW16
  local function look(key)
    for _, member in ipairs(call('ZRANGE', key, 0, 63)) do
      oldest = string.sub(member, 1, 16) < oldest and string.sub(member, 1, 16) or oldest
    end
  end
  look(K .. 'ready:' .. dest)
  for _, tenant in ipairs(call('ZRANGE', K .. 'shares:' .. dest, 0, 15)) do
    look(ready_of(dest, tenant))
  end
  return oldest
end

-- Files a destination by when the next delivery there becomes due.
local function file_later(dest)
  local head = call('ZRANGE', K .. 'later:' .. dest, 0, 0, 'WITHSCORES')[2]
  if not head then
    call('ZREM', K .. 'later', dest)
    return
  end
  head = tonumber(head)
  local first = call('ZRANGE', K .. 'later', 0, 0, 'WITHSCORES')[2]
  call('ZADD', K .. 'later', us(head), dest)
  if not first or head < tonumber(first) then
    timer()
  end
end

-- Makes deliveries of one tenant ready. Returns whether nothing of it was.
local function add_ready_of(dest, tenant, list)
  local key, fair = ready_of(dest, tenant), K .. 'fair:' .. dest
  local size = call('ZCARD', key)
  local shares = (size == 0 or tenant ~= '') and call('EXISTS', K .. 'shares:' .. dest) == 1
  local v
  if size > 0 or shares then
    v = tonumber(call('HGET', fair, 'v' .. tenant) or nil)
  end
  if size == 0 and (shares or tenant ~= '') then
    if not shares and call('EXISTS', K .. 'ready:' .. dest) == 1 then
      call('ZADD', K .. 'shares:' .. dest, 0, '')
    end
    local tags = call('HMGET', fair, 'w', 'o' .. tenant)
    call('ZADD', K .. 'shares:' .. dest, math.max(tags[1] or 0, tags[2] or 0), tenant)
  end

  local members, last, books = {}, {}, {}
  local first = size == 0 and not shares
  for _, delivery in ipairs(list) do
    local base = 0
    if not v and (size >= UNFAIR or delivery.priority ~= 0) then
      v = 0
      books = { 'v' .. tenant, 0 }
    end
    if v then
      local name = 'f' .. tenant .. '\n' .. delivery.sender
      base = math.max(v, last[name] or tonumber(call('HGET', fair, name) or 0))
      last[name] = base + 1
    end
    members[#members + 1] = base - STEP * delivery.priority
    members[#members + 1] = delivery.due .. delivery.name
    size = size + 1
  end
  call_all('ZADD', key, members)
  for name, after in pairs(last) do
    books[#books + 1] = name
    books[#books + 1] = after
  end
  if #books > 0 then
    call_all('HSET', fair, books)
  end
  return first
end

-- What is to be placed, by destination: ready, later.
local placed = {}

-- Lets a delivery wait. `due` is text of 16 digits. Without its sender, tenant and priority, its
-- record is asked for them.
local function place(dest, name, due, sender, tenant, priority)
  local at = placed[dest]
  if not at then
    at = { ready = {}, later = {} }
    placed[dest] = at
  end
  if tonumber(due) > now then
    at.later[#at.later + 1] = due
    at.later[#at.later + 1] = name
    return
  end
  if not sender then
    local known = call('HMGET', K .. 'm:' .. string.match(name, '^[^.]*'), 'r', 't', 'p')
    sender, tenant, priority = known[1] or '', known[2] or '', tonumber(known[3] or 0)
  end
  local list = at.ready[tenant]
  if not list then
    list = {}
    at.ready[tenant] = list
  end
  list[#list + 1] = { name = name, due = due, sender = sender, priority = priority }
end

local function by_due(one, other)
  return one.due < other.due or (one.due == other.due and one.name < other.name)
end

-- Adds what has become due at a destination, at most so many, to what is to be placed there: before
-- anything that became due after it. Returns whether that was all.
local function add_due(dest, most)
  local later = K .. 'later:' .. dest
  local due = call('ZRANGEBYSCORE', later, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, most)
  if #due == 0 then
    return true
  end
  call('ZREMRANGEBYRANK', later, 0, #due / 2 - 1)
  file_later(dest)
  for at = 1, #due, 2 do
    place(dest, due[at], digits(tonumber(due[at + 1])))
  end
  for _, list in pairs(placed[dest].ready) do
    table.sort(list, by_due)
  end
  return #due < 2 * most
end

-- Places what is to be placed at a destination, and tells who waits.
local function publish_placed_at(dest)
  local at, first, oldest = placed[dest], nil, NOW16
  placed[dest] = nil
  for tenant, list in pairs(at.ready) do
    for _, delivery in ipairs(list) do
      if delivery.due < oldest then
        oldest = delivery.due
      end
    end
    local none_before = add_ready_of(dest, tenant, list)
    if first == nil then
      first = none_before
    end
  end
  if #at.later > 0 then
    call_all('ZADD', K .. 'later:' .. dest, at.later)
    file_later(dest)
  end
  -- If it had something ready, it is filed already, and has been told of. Who holds every slot is
  -- told as well: nobody else can take it.
  if first or oldest < NOW16 then
    file(dest, oldest)
    if first and not suspensions().whole[dest] then
      wake(dest)
    end
  end
end

local function publish_placed()
  for dest, at in pairs(placed) do
    if next(at.ready) then
      add_due(dest, 1000)
    end
    publish_placed_at(dest)
  end
end

-- Makes ready what has become due at a destination, at most so many. Returns whether that was all.
local function move_due(dest, most)
  local all = add_due(dest, most)
  if placed[dest] then
    publish_placed_at(dest)
  end
  return all
end

-- After the last of a tenant has left: `tag` is the one with which it leaves.
local function emptied(dest, tenant, tag)
  local shares, fair = K .. 'shares:' .. dest, K .. 'fair:' .. dest
  tag = tag or call('ZSCORE', shares, tenant)
  if tag then
    call('ZREM', shares, tenant)
    if call('EXISTS', shares) == 1 then
      call('HSET', fair, 'o' .. tenant, tag)
      return
    end
  end
  call('DEL', fair)
end

-- Since when destinations were filed of which a delivery was taken out that waited as long.
local displaced = {}

-- Takes a waiting delivery out.
local function displace(dest, name, due, tenant)
  if call('ZREM', K .. 'later:' .. dest, name) == 1 then
    file_later(dest)
  else
    local key = ready_of(dest, tenant)
    if call('ZREM', key, due .. name) == 1 then
      if call('EXISTS', key) == 0 then
        emptied(dest, tenant)
      end
      local since = call('ZSCORE', K .. 'waits:' .. string.match(dest, '^[^:]*'), dest)
      if since and tonumber(due) <= tonumber(since) then
        displaced[dest] = digits(tonumber(since))
      end
    end
  end
  file(dest, NOW16)
end

-- Files these destinations by what waits there now, but not before those that it was filed behind
-- when it was served.
local function file_displaced()
  for dest, since in pairs(displaced) do
    local oldest = oldest_ready(dest)
    call('ZREM', K .. 'waits:' .. string.match(dest, '^[^:]*'), dest)
    file(dest, oldest > since and oldest or since)
  end
  displaced = {}
end

-- Drops what V has overtaken from the books, a piece at a time.
local function prune(fair)
  local found = call('HSCAN', fair, call('HGET', fair, 'c') or '0', 'COUNT', 64)
  call('HSET', fair, 'c', found[1])
  local served, v = tonumber(call('HGET', fair, 'w') or 0), {}
  for at = 1, #found[2], 2 do
    local name, tag = found[2][at], tonumber(found[2][at + 1])
    local kind, tenant = string.match(name, '^(%a)([^\n]*)')
    if kind == 'f' then
      v[tenant] = v[tenant] or tonumber(call('HGET', fair, 'v' .. tenant) or 0)
    end
    if (kind == 'f' and tag <= v[tenant]) or (kind == 'o' and tag <= served) then
      call('HDEL', fair, name)
    end
  end
end

-- Takes at most `most` from a tenant's set, in order. `use(name, due)` says what to do with each: true
-- to take it, false to drop it, nil to stop before it. What a suspension stops is parked on the
-- way, at most so many as `parking.left` says. Returns how many were taken, whether the set is
-- empty then, and whether to go no further.
local function take_of(dest, tenant, most, use, parking)
  local key, fair = ready_of(dest, tenant), K .. 'fair:' .. dest
  local v = tonumber(call('HGET', fair, 'v' .. tenant) or nil)
  local size = v and call('ZCARD', key)
  local before, taken, done, ended = v, 0, 0, false
  local some = #suspensions().some > 0
  local list = call('ZRANGE', key, 0, most - 1, 'WITHSCORES')
  for at = 1, #list, 2 do
    local due, name = string.sub(list[at], 1, 16), string.sub(list[at], 17)
    local stop, priority
    if v or some then
      local known = call('HMGET', K .. 'm:' .. string.match(name, '^[^.]*'), 'r', 'p')
      stop = some and stopped(dest, known[1] or '', tenant)
      priority = tonumber(known[2] or 0)
    end
    if stop then
      if parking.left == 0 then
        ended = true
        break
      end
      parking.left = parking.left - 1
      call('ZADD', K .. 'parked:' .. stop, due, name)
    else
      local used = use(name, due)
      if used == nil then
        ended = true
        break
      end
      if used then
        taken = taken + 1
        if v then
          v = math.max(v + 1 / size, tonumber(list[at + 1]) + STEP * priority)
        end
      end
    end
    done = done + 1
  end
  if done > 0 then
    call('ZREMRANGEBYRANK', key, 0, done - 1)
  end
  if v and v > before then
    call('HSET', fair, 'v' .. tenant, string.format('%.6f', v))
    prune(fair)
  end
  return taken, (done == #list / 2 and call('EXISTS', key) == 0), ended
end

-- Takes at most `most` of what is ready at a destination, in fair order; see `take_of`. Returns how
-- many were taken.
local function take(dest, most, use, parking)
  local shares, fair = K .. 'shares:' .. dest, K .. 'fair:' .. dest
  local taken = 0
  while taken < most do
    local two = call('ZRANGE', shares, 0, 1, 'WITHSCORES')
    if #two == 0 then
      local some, empty, ended = take_of(dest, '', most - taken, use, parking)
      taken = taken + some
      if empty then
        emptied(dest, '')
        return taken
      end
      if ended then
        return taken
      end
    else
      local tenant, tag, share = two[1], tonumber(two[2]), weight(two[1])
      local turn = most - taken
      if two[3] then
        turn = math.min(turn, math.floor((tonumber(two[4]) - tag) * share) + 1)
      end
      local some, empty, ended = take_of(dest, tenant, turn, use, parking)
      taken = taken + some
      if some > 0 then
        call('HSET', fair, 'w', tag + (some - 1) / share)
      end
      tag = tag + some / share
      if empty then
        emptied(dest, tenant, tag)
      elseif some > 0 then
        call('ZADD', shares, tag, tenant)
      end
      if ended then
        return taken
      end
    end
  end
  return taken
end

-- Holds a delivery, until a time or (0) until it is released.
local function hold(dest, id, number, until_us)
  call('HSET', K .. 'm:' .. id, 'h' .. number, until_us)
  if call('ZADD', K .. 'held', until_us == '0' and 'inf' or until_us, id .. '.' .. number) == 1 then
    call('HINCRBY', K .. 'holds', dest, 1)
  end
  if until_us ~= '0' then
    timer()
  end
end

local function unhold(dest, id, number)
  call('HDEL', K .. 'm:' .. id, 'h' .. number)
  if call('ZREM', K .. 'held', id .. '.' .. number) == 1
    and call('HINCRBY', K .. 'holds', dest, -1) <= 0 then
    call('HDEL', K .. 'holds', dest)
  end
end

-- When a delivery is due, from its fields u, a, y: text of 16 digits.
local function due_of(u, a, y)
  return u or digits(math.max(tonumber(a), tonumber(y or 0)))
end
