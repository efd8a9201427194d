-- Let nobody claim on an empty server any more, in the name of the set's present leader.
-- KEYS: used, built, epoch, fenced   ARGV: place, epoch
-- returns 'fenced' (again too), or why not: 'unbuilt' while Redis does not hold the set's claims,
-- 'stale' for a leader that was followed by another, 'used' while a slot is claimed or a room runs
if redis.call('EXISTS', KEYS[2]) == 0 then
  return 'unbuilt'
end
local epoch = tonumber(ARGV[2])
if epoch < tonumber(redis.call('GET', KEYS[3]) or '0') then
  return 'stale'
end
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') > 0 then
  return 'used'
end
-- A Redis that lost its epoch learns it from the leader.
redis.call('SET', KEYS[3], string.format('%d', epoch))
redis.call('HSET', KEYS[4], ARGV[1], string.format('%d', epoch))
return 'fenced'
