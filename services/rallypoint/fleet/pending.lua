-- Which claims have waited for their room for so long, the oldest first.
-- KEYS: claims, expiry, claim ttl   ARGV: now ms, ttl ms, least ttl ms of a set's own, waited ms, most
-- returns triples of room, claim and its end in ms
local latest = ARGV[1] + claim_ttl(KEYS[3], ARGV[2], ARGV[3]) - ARGV[4]
local waiting = {}
local oldest = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', latest, 'WITHSCORES', 'LIMIT', 0, ARGV[5])
for i = 1, #oldest, 2 do
  local claim = redis.call('HGET', KEYS[1], oldest[i])
  if claim and string.sub(claim, 1, 1) == 'C' then
    waiting[#waiting + 1] = oldest[i]
    waiting[#waiting + 1] = claim
    waiting[#waiting + 1] = oldest[i + 1]
  end
end
return waiting
