-- After a loss of Redis: take running rooms in as confirmed claims, and say that it was done.
-- KEYS: claims, used, built   ARGV: triples of room, place, epoch   returns how many were taken in
local taken = 0
for i = 1, #ARGV, 3 do
  local claim = string.format('R|%s|%d', ARGV[i + 1], tonumber(ARGV[i + 2]))
  if redis.call('HSETNX', KEYS[1], ARGV[i], claim) == 1 then
    redis.call('HINCRBY', KEYS[2], ARGV[i + 1], 1)
    taken = taken + 1
  end
end
redis.call('SET', KEYS[3], '1')
return taken
