-- What holds for which destination, and how tenants share. ARGV[3] has a line for each policy, the
-- first that fits holds, the last fits all:
--   p <tab> how it fits <tab> beginning <tab> end <tab> lifetime in microseconds <tab> H or R
-- and one for each tenant whose weight is not 1:
--   w <tab> weight <tab> tenant
-- A policy fits all (a), what begins so (t), what begins and ends so with something between (b), or
-- what is so (o). H holds deliveries whose outcome is unknown, R retries them.

local policies, weights
local function read_rules()
  policies, weights = {}, {}
  for line in string.gmatch(ARGV[3], '[^\n]+') do
    local fit, first, last, lifetime, unknown =
      string.match(line, '^p\t(%a)\t([^\t]*)\t([^\t]*)\t(%d+)\t(%a)$')
    if fit then
      policies[#policies + 1] = { fit = fit, first = first, last = last,
        lifetime = tonumber(lifetime), hold = unknown == 'H' }
    else
      local weight, tenant = string.match(line, '^w\t(%d+)\t(.*)$')
      weights[tenant] = tonumber(weight)
    end
  end
end

local function policy(dest)
  if not policies then
    read_rules()
  end
  for _, rule in ipairs(policies) do
    local fit, first, last = rule.fit, rule.first, rule.last
    if fit == 'a' or (fit == 'o' and dest == first)
      or (fit ~= 'o' and string.sub(dest, 1, #first) == first
        and (fit == 't' or (#dest > #first + #last and string.sub(dest, -#last) == last))) then
      return rule
    end
  end
end

local function weight(tenant)
  if not policies then
    read_rules()
  end
  return weights[tenant] or 1
end
