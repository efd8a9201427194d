-- What a set's servers hold, for choosing among them.
-- KEYS: used, fenced, last, unmet   ARGV: since when a refusal counts, ms
-- returns {pairs of place and slots used}, {fenced places}, {places to fill last}, requests refused
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('HKEYS', KEYS[2]),
  redis.call('SMEMBERS', KEYS[3]),
  redis.call('ZCOUNT', KEYS[4], ARGV[1], '+inf'),
}
