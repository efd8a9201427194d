-- Trade the newest refresh token for the next one. Any other token of a living family means that
-- two hold it: the family is revoked and stays as a tombstone, so that both learn of it.
-- KEYS[1] the family; ARGV: presented hash, next hash, life ms
-- Returns {verdict, player, name}; verdict OK, UNKNOWN or REUSED.
local family = redis.call('HMGET', KEYS[1], 'current', 'player', 'name')
if not family[1] then
  return {'UNKNOWN', '', ''}
end
if family[1] ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'current', 'revoked')
  return {'REUSED', '', ''}
end
redis.call('HSET', KEYS[1], 'current', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'OK', family[2], family[3]}
