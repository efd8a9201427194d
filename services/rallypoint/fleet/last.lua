-- Which servers are filled after all others, because they shall empty by themselves.
-- KEYS: last   ARGV: places   returns how many
redis.call('DEL', KEYS[1])
if #ARGV > 0 then
  redis.call('SADD', KEYS[1], unpack(ARGV))
end
return #ARGV
