-- What the operator must know of a set, as it was at one moment.
-- KEYS: used, fenced, claim ttl, unmet   ARGV: since when a refusal counts, ms
-- returns {pairs of place and slots used}, {pairs of fenced place and epoch}, ttl of claims in ms or
-- false, requests refused
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('HGETALL', KEYS[2]),
  redis.call('GET', KEYS[3]),
  redis.call('ZCOUNT', KEYS[4], ARGV[1], '+inf'),
}
