-- After a loss of Redis: take running rooms in as confirmed claims, and say that it was done.
-- KEYS: claims, used, built   ARGV: 1 for the last batch, triples of room, place, epoch
-- returns how many were taken in; none once it is done, since what the caller has read may be old
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
local taken = 0
for i = 2, #ARGV, 3 do
  local claim = string.format('R|%s|%d', ARGV[i + 1], tonumber(ARGV[i + 2]))
  if redis.call('HSETNX', KEYS[1], ARGV[i], claim) == 1 then
    redis.call('HINCRBY', KEYS[2], ARGV[i + 1], 1)
    taken = taken + 1
  end
end
if ARGV[1] == '1' then
  redis.call('SET', KEYS[3], '1')
end
return taken
