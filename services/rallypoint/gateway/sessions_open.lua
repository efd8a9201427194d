-- Start a refresh family.
-- KEYS[1] the family; ARGV: token hash, life ms, player, name
redis.call('HSET', KEYS[1], 'current', ARGV[1], 'player', ARGV[3], 'name', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
