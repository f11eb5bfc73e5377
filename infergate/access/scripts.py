"""What Redis runs for the limits: one atomic script before an operation, one when it is charged.

Both go by Redis's own clock, so that all processes agree on when a window ends. Every key begins
with ``infergate:`` and expires.
"""

from __future__ import annotations

# The beginning and the end of the window that `second` is in, as `windows.bounds` has them. The
# month is found by Howard Hinnant's `civil_from_days`: years that begin in March end with the leap
# day, and 153 days are any five months from there.
BOUNDS = """
local function bounds(window, second)
  local days = math.floor(second / 86400)
  if window == 'month' then
    local z = days + 719468
    local era = math.floor(z / 146097)
    local doe = z - era * 146097
    local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
      - math.floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
    local mp = math.floor((5 * doy + 2) / 153)
    local day = doy - math.floor((153 * mp + 2) / 5)
    local month = mp < 10 and mp + 3 or mp - 9
    local year = yoe + era * 400 + (month <= 2 and 1 or 0)
    local length = ({31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31})[month]
    if month == 2 and (year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) then length = 29 end
    return (days - day) * 86400, (days - day + length) * 86400
  end
  local length = ({minute = 60, hour = 3600, day = 86400, week = 604800})[window]
  local offset = window == 'week' and -259200 or 0
  local began = math.floor((second - offset) / length) * length + offset
  return began, began + length
end
"""

# What is asked and answered is one text each: txredisapi encodes each argument by itself. The
# answer is a status, one line, which it reads at once: with a string it would stop reading, and
# wait an iteration of the event loop, before it looks at the answer behind it.
_SPLIT = """
local function split(text)
  local words = {}
  for word in string.gmatch(text, '%S+') do words[#words + 1] = word end
  return words
end
"""

# KEYS: that of the rate, then one for each budget.
#
# ARGV, one text with blanks between: take (1 or 0), costs (1 or 0), requests of the rate (0: there
# is none), its period in seconds; then for each budget four words: its window, its tokens, what the
# process that asks knows to be used, and the second at which the window of that began.
#
# Answers one text: whether the rate allows it (1 or 0), how many microseconds of its bucket are
# used; then for each budget two words: the tokens used, and the seconds until its window is over.
#
# Where Redis has no count of a window, because it is new or Redis has forgotten it, what the
# process knows is taken over, if it is of the same window. A request that a budget refuses takes
# nothing from the rate: the rate is asked last, when it is known whether a budget is used up. The
# rate's key holds three numbers, as in "1789990000 250000 1000000.000000": the second and the
# microsecond at which so many microseconds of the bucket were used. Whatever time has passed since
# then has been given back. It expires when all of it has.
ASK = (
    BOUNDS
    + _SPLIT
    + """
local words = split(ARGV[1])
local time = redis.call('TIME')
local second, micro = tonumber(time[1]), tonumber(time[2])
local answer, over = {1, '0'}, false
local at = 5
for index = 2, #KEYS do
  local window, count = words[at], tonumber(words[at + 1])
  local began, ends = bounds(window, second)
  local key = KEYS[index] .. ':' .. string.format('%.0f', began)
  local used = tonumber(redis.call('GET', key))
  if not used then
    used = tonumber(words[at + 3]) == began and tonumber(words[at + 2]) or 0
    if used > 0 then redis.call('SET', key, words[at + 2], 'EX', ends - second + 1) end
  end
  if used >= count then over = true end
  answer[#answer + 1] = string.format('%.0f', used)
  answer[#answer + 1] = string.format('%.6f', ends - second - micro / 1000000)
  at = at + 4
end
local count, full = tonumber(words[3]), tonumber(words[4]) * 1000000
if count > 0 then
  -- The generic cell rate algorithm: how much of the bucket was used, and when that was true.
  local used, cost = 0, full / count
  local kept = redis.call('GET', KEYS[1])
  if kept then
    local then_second, then_micro, then_used = string.match(kept, '^(%d+) (%d+) ([%d.]+)$')
    local passed = (second - then_second) * 1000000 + micro - then_micro
    used = math.min(math.max(then_used - passed, 0), full)
  end
  -- A thousandth of a request is what rounding may add up to.
  local allowed = used + cost <= full + cost / 1000
  if allowed and words[1] == '1' and not (over and words[2] == '1') then
    used = used + cost
    redis.call('SET', KEYS[1], string.format('%.0f %.0f %.6f', second, micro, used),
      'PX', math.ceil(used / 1000) + 1)
  end
  answer[1], answer[2] = allowed and 1 or 0, string.format('%.6f', used)
end
return {ok = table.concat(answer, ' ')}
"""
)

# KEYS: one for each budget.
#
# ARGV, one text with blanks between: the tokens; then for each budget three words: its window, what
# the process knows to be used, these tokens included, and when the window of that began.
#
# A count that is there is added to. One that is not begins with what the process knows, if that is
# of the same window, and with these tokens alone if it is not.
CHARGE = (
    BOUNDS
    + _SPLIT
    + """
local words = split(ARGV[1])
local second = tonumber(redis.call('TIME')[1])
for index = 1, #KEYS do
  local began, ends = bounds(words[index * 3 - 1], second)
  local key = KEYS[index] .. ':' .. string.format('%.0f', began)
  if redis.call('EXISTS', key) == 1 then
    redis.call('INCRBY', key, words[1])
  else
    local known = tonumber(words[index * 3 + 1]) == began and words[index * 3] or words[1]
    redis.call('SET', key, known)
  end
  redis.call('EXPIRE', key, ends - second + 1)
end
return 1
"""
)
