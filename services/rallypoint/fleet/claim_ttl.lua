-- How long a claim waits for its room, in ms: as the set says, but never too short to make one.
-- Stands before the scripts that need it: key of the set's own ttl, ttl without one, least of its own
local function claim_ttl(key, usual, least)
  local own = redis.call('GET', key)
  return own and math.max(tonumber(own), tonumber(least)) or tonumber(usual)
end
