-- A delivery's progress, s<n>: its attempts, then b if an operator wants it bounced, w if the sender
-- was told of the delay, u and how many attempts' outcomes are unknown. None stands for 0.

local function read_progress(text)
  local attempts, bounce, warned, unknown = string.match(text or '0', '^(%d+)(b?)(w?)u?(%d*)$')
  return { attempts = tonumber(attempts), bounce = bounce == 'b', warned = warned == 'w',
    unknown = tonumber(unknown) or 0 }
end

local function write_progress(progress)
  return us(progress.attempts) .. (progress.bounce and 'b' or '') .. (progress.warned and 'w' or '')
    .. (progress.unknown > 0 and 'u' .. us(progress.unknown) or '')
end

-- One more attempt with an unknown outcome.
local function add_unknown(progress)
  count('unknown', 1)
  progress.unknown = progress.unknown + 1
  if progress.unknown == 1 then
    count('unsure', 1)
  end
end

-- Ends every open recipient of a delivery as removed.
local function remove(id, number, dest, open, message)
  local _, recipients = string.gsub(open, '\n', '')
  count('removed', recipients)
  count('open', -recipients)
  finish(id, number, dest, message)
end

-- Writes where a delivery goes from now on. `open` is its d<n>.
local function redirect(id, number, dest, to, open)
  call('HSET', K .. 'm:' .. id, 'd' .. number, to .. string.match(open, '\n.*$'))
  load[dest] = (load[dest] or 0) - 1
  load[to] = (load[to] or 0) + 1
end

-- Lets a delivery wait after its attempt, as an operator wanted meanwhile (`wanted`, as in `pending`: b
-- bounce, R and a destination, M and a destination of another partition with its number, h and until
-- when), or held by its destination's policy. Returns when it is due, and whether the policy
-- holds it.
local function put_back(id, number, dest, due, progress, wanted, by_policy)
  local what, value = string.match(wanted or '', '^(%a?)(.*)$')
  if what == 'b' then
    progress.bounce = true
    due = NOW16
    by_policy = false
  elseif what == 'R' then
    if value ~= dest then
      redirect(id, number, dest, value, call('HGET', K .. 'm:' .. id, 'd' .. number))
      dest = value
    end
  end
  call('HSET', K .. 'm:' .. id, 's' .. number, write_progress(progress), 'u' .. number, due)
  if what == 'M' then
    local partition, to = string.match(value, '^(%d+) (.*)$')
    redirect(id, number, dest, to, call('HGET', K .. 'm:' .. id, 'd' .. number))
    if by_policy then
      call('HSET', K .. 'm:' .. id, 'h' .. number, '0')
    end
    leave(id, number, partition)
  elseif what == 'h' then
    hold(dest, id, number, value)
    by_policy = false
  elseif by_policy then
    hold(dest, id, number, '0')
  else
    place(dest, id .. '.' .. number, due)
  end
  return due, by_policy
end
