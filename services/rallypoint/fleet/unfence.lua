-- Let a server be claimed on again, or forget one that is gone.
-- KEYS: epoch, fenced   ARGV: place, epoch   returns 'open' (again too), or 'stale'
if tonumber(ARGV[2]) < tonumber(redis.call('GET', KEYS[1]) or '0') then
  return 'stale'
end
redis.call('HDEL', KEYS[2], ARGV[1])
return 'open'
