-- What a set's servers hold, for choosing among them.
-- KEYS: used, fenced, last   returns {pairs of place and slots used}, {fenced places}, {places to fill last}
return {redis.call('HGETALL', KEYS[1]), redis.call('HKEYS', KEYS[2]), redis.call('SMEMBERS', KEYS[3])}
