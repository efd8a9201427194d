-- A request belongs to one set for ever, and its epochs only grow.
-- KEYS: bind   ARGV: set, epoch given, ttl in seconds   returns {set, highest epoch}
local known = redis.call('HMGET', KEYS[1], 'set', 'epoch')
local set = known[1] or ARGV[1]
local epoch = math.max(tonumber(known[2] or '0'), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'set', set, 'epoch', string.format('%d', epoch))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {set, epoch}
