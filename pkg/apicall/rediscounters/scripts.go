package rediscounters

import "github.com/redis/go-redis/v9"

// What is counted together has two keys:
//
//	KEYS[1]  sorted set, the calls that hold a place, by the end of their lease
//	KEYS[2]  list, when each call of the window began, the oldest first
//
// Times are Redis's, in microseconds, which Lua's numbers hold exactly. A call
// that began at t is in the window until t + window, and no longer. Both keys
// expire once all in them is past, and a second later: expiry counts in
// milliseconds from an earlier look at the clock, and one that comes too early
// would admit too much.

// common is how all scripts begin.
const common = `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]

-- text writes a time; Lua's own way drops digits.
local function text(time) return string.format('%.0f', time) end

local function expire(key, after)
  redis.call('PEXPIRE', key, math.ceil(after / 1000) + 1000)
end
`

// window tells of KEYS[2] how many of its calls are past, how many are in the
// window, and for how long no other may begin.
const window = `
local function begun(most, window)
  if most == 0 then return 0, 0, 0 end
  local past, all = 0, redis.call('LLEN', KEYS[2])
  local high = all
  while past < high do
    local middle = math.floor((past + high) / 2)
    if tonumber(redis.call('LINDEX', KEYS[2], middle)) <= now - window then past = middle + 1 else high = middle end
  end
  local wait = 0
  if all - past >= most then
    wait = math.min(window, redis.call('LINDEX', KEYS[2], all - most) + window - now)
  end
  return past, all - past, wait
end
`

// takeScript: call, placed, concurrency, calls, window, lease -> blocked, and
// as usageScript.
var takeScript = redis.NewScript(common + window + `
local call, placed = ARGV[1], ARGV[2] == '1'
local bound, most, window, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- A clock that went back: what lies ahead of it becomes now, so that it lasts
-- as long as it would have, and no longer.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now + lease), '+inf')) do
  redis.call('ZADD', KEYS[1], text(now + lease), id)
end
local last = most > 0 and redis.call('LINDEX', KEYS[2], -1) -- what bounds nothing is left to expire
if last and tonumber(last) > now then
  local all = redis.call('LRANGE', KEYS[2], 0, -1)
  redis.call('DEL', KEYS[2])
  for _, at in ipairs(all) do redis.call('RPUSH', KEYS[2], text(math.min(tonumber(at), now))) end
  expire(KEYS[2], window)
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
local running = redis.call('ZCARD', KEYS[1])
local past, calls, wait = begun(most, window)
if past > 0 then redis.call('LTRIM', KEYS[2], past, -1) end

if placed and redis.call('ZSCORE', KEYS[1], call) then return {0, running, calls, wait} end
if placed and bound > 0 and running >= bound then return {1, running, calls, wait} end
if most > 0 and calls >= most then return {2, running, calls, wait} end

if placed then
  redis.call('ZADD', KEYS[1], text(now + lease), call)
  expire(KEYS[1], lease)
  running = running + 1
end
if most > 0 then
  redis.call('RPUSH', KEYS[2], text(now))
  expire(KEYS[2], window)
  past, calls, wait = begun(most, window)
end
return {0, running, calls, wait}
`)

// usageScript: calls, window -> calls that run, calls in the window, µs until
// another may begin.
var usageScript = redis.NewScript(common + window + `
local past, calls, wait = begun(tonumber(ARGV[1]), tonumber(ARGV[2]))
return {redis.call('ZCOUNT', KEYS[1], '(' .. text(now), '+inf'), calls, wait}
`)

// renewSource: lease, calls. A place that was given up stays so. One whose lease
// has ended is kept when nobody has looked since: it was given to nobody.
const renewSource = common + `
local lease = tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', text(now + lease), ARGV[i]) end
expire(KEYS[1], lease)
return 0
`
