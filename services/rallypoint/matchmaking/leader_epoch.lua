-- Raise the queue's epoch; never lower it.
-- KEYS epoch
-- ARGV wanted
-- Returns the epoch as it now is.
local now = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > now then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return tostring(now)
