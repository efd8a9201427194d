-- The room is made: its claim stays until it is released.
-- KEYS: claims, expiry   ARGV: room, place|epoch   returns 1, or 0 when the claim is another's now
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found or not string.find('CMR', string.sub(found, 1, 1)) or string.sub(found, 3) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], 'R|' .. ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
