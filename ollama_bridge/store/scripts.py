"""What Redis does at one stroke: Lua around the sliding windows of the library `limits`.

Importing this takes a tenth of a second, and is for a thread.

Each script has the key of its operation first. Under it the operation notes that it was done, so that one whose
answer was lost can be sent again, or be undone, without being done twice.
"""

from typing import Final

from limits.storage import RedisStorage

_WINDOWS: Final = f"""
local function acquire(KEYS, ARGV)
{RedisStorage.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()}
end
local function window(KEYS, ARGV)
{RedisStorage.SCRIPT_SLIDING_WINDOW.decode()}
end
local function text(number)
  return string.format('%.0f', number)
end
local function take_off(key, amount)
  redis.call('decrby', key, text(math.min(amount, tonumber(redis.call('get', key)) or 0)))
end
-- What a purse holds. A server that forgot it begins with what the instance that asks has seen of it.
local function held(key, ttl, seen)
  redis.call('set', key, seen, 'PX', ttl, 'NX')
  return tonumber(redis.call('get', key))
end
"""

TAKE: Final = f"""{_WINDOWS}
-- KEYS: the operation; the previous and the current window of each rate; the purses
-- ARGV: ms to remember the operation; how many rates; how many purses; wanted; least;
--       limit, window in s, cost of each rate; limit, ms until it ends, seen of each purse
local remember, rates, purses = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local amount, least = tonumber(ARGV[4]), tonumber(ARGV[5])
local before = redis.call('get', KEYS[1])
if before == 'done' then
  return {{'undone'}}
end
if before then
  local now = {{}}
  for purse = 1, purses do
    now[purse] = redis.call('get', KEYS[1 + 2 * rates + purse]) or '0'
  end
  return {{'granted', before, now}}
end
local function windows(rate)
  return {{KEYS[2 * rate], KEYS[2 * rate + 1]}}, 3 + 3 * rate
end
local function give_back(last)
  for rate = 1, last do
    local keys, at = windows(rate)
    redis.call('decrby', keys[2], ARGV[at + 2])
  end
end
for rate = 1, rates do
  local keys, at = windows(rate)
  if not acquire(keys, {{ARGV[at], ARGV[at + 1], ARGV[at + 2]}}) then
    give_back(rate - 1)
    return {{'rate', rate - 1, window(keys, {{ARGV[at + 1]}})}}
  end
end
local spent = {{}}
for purse = 1, purses do
  local at = 3 + 3 * rates + 3 * purse
  spent[purse] = held(KEYS[1 + 2 * rates + purse], ARGV[at + 1], ARGV[at + 2])
  local left = math.max(0, tonumber(ARGV[at]) - spent[purse])
  if left < least then
    give_back(rates)
    return {{'purse', purse - 1, text(left)}}
  end
  amount = math.min(amount, left)
end
for purse = 1, purses do
  redis.call('incrby', KEYS[1 + 2 * rates + purse], text(amount))
  spent[purse] = text(spent[purse] + amount)
end
redis.call('set', KEYS[1], text(amount), 'PX', remember)
return {{'granted', text(amount), spent}}
"""

SETTLE: Final = f"""{_WINDOWS}
-- KEYS: as above. ARGV: ms to remember the operation; how many rates; how many purses; nano-dollars, or 'undo';
--       window in s, difference, ms since it was taken of each rate; ms until it ends, seen of each purse
local remember, rates, purses, amount = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local to_do = redis.call('set', KEYS[1], 'done', 'PX', remember, 'NX')
if ARGV[4] == 'undo' then
  -- If it has not been done, it will not be any more; if it has, this holds what was granted.
  amount = not to_do and tonumber(redis.call('get', KEYS[1]))
  to_do = amount
  if to_do then
    amount = -amount
    redis.call('set', KEYS[1], 'done', 'PX', remember)
  end
end
for rate = 1, to_do and rates or 0 do
  local keys, at = {{KEYS[2 * rate], KEYS[2 * rate + 1]}}, 2 + 3 * rate
  local cost, age, length = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at]) * 1000
  window(keys, {{ARGV[at]}})
  local current_ms = 2 * length - redis.call('pttl', keys[2])
  if cost >= 0 then
    redis.call('set', keys[2], 0, 'PX', 2 * length, 'NX')
    redis.call('incrby', keys[2], text(cost))
  elseif redis.call('exists', keys[2]) == 1 and age <= current_ms then
    take_off(keys[2], -cost)
  elseif redis.call('exists', keys[1]) == 1 and age <= current_ms + length then
    take_off(keys[1], -cost)
  end
end
local spent = {{}}
for purse = 1, purses do
  local key, at = KEYS[1 + 2 * rates + purse], 3 + 3 * rates + 2 * purse
  held(key, ARGV[at], ARGV[at + 1])
  if to_do and amount >= 0 then
    redis.call('incrby', key, text(amount))
  elseif to_do then
    take_off(key, -amount)
  end
  spent[purse] = redis.call('get', key)
end
return spent
"""
