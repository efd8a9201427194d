-- A new leader of a set: its epoch is above every one before, those that Redis forgot included.
-- KEYS: epoch   ARGV: the highest epoch known elsewhere   returns the epoch
local epoch = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1])) + 1
redis.call('SET', KEYS[1], string.format('%d', epoch))
return epoch
