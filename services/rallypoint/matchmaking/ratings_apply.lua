-- Apply one result: the ratings of all its players, its mark and the stream position, or nothing.
-- KEYS epoch applied position rating...
-- ARGV epoch match seq now_s forget_before_s (mu sigma matches change)...
-- Returns {FENCED, epoch}, {DUPLICATE} (only the position moves) or {APPLIED}.
local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[1] then return {'FENCED', epoch or ''} end
redis.call('SET', KEYS[3], ARGV[3])
if ARGV[2] == '' or redis.call('ZSCORE', KEYS[2], ARGV[2]) then return {'DUPLICATE'} end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
for index = 4, #KEYS do
  local first = 6 + (index - 4) * 4
  redis.call('HSET', KEYS[index], 'mu', ARGV[first], 'sigma', ARGV[first + 1],
    'matches', ARGV[first + 2], 'last_change', ARGV[first + 3], 'last_match_id', ARGV[2])
end
return {'APPLIED'}
