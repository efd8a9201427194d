-- A request belongs to one set for ever, and its epochs only grow.
-- KEYS: bind   ARGV: set, epoch given, ttl in seconds, 1 to give the next epoch to who asks
-- returns {set, highest epoch}
local known = redis.call('HMGET', KEYS[1], 'set', 'epoch')
local set = known[1] or ARGV[1]
local epoch = math.max(tonumber(known[2] or '0'), tonumber(ARGV[2]))
if ARGV[4] == '1' and set == ARGV[1] then
  epoch = epoch + 1
end
redis.call('HSET', KEYS[1], 'set', set, 'epoch', string.format('%d', epoch))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {set, epoch}
