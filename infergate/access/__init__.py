"""Who may come in, and how much.

admission        the order of the questions, and what a refusal costs
budgets          the budgets of a day, a week or a month, taken over from the ledger
standing         what a caller is told of its usage and its limits
roster           who is known, and what each may do
keysfile         keys as people write them
options          what may stand behind a key, and the policies made of it
jwts             who is calling: JSON Web Tokens
jwks             the keys that tokens are verified with
auth             who is calling: API keys
algorithms       the names of the algorithms of tokens
redislink        a connection to Redis that is there or is away
redisconnection  one connection to Redis, on which scripts are run
redisurl         which Redis a SHARED_STATE names
shared           rates and token budgets of all processes that share one Redis
scripts          what Redis runs for them
limits           rates and token budgets, in the memory of one process
account          on whose account a request is served
spending         tokens used in the current windows
windows          the current minute, hour, day, week or month
places           operations under way at once
policy           what a caller may do, as one value
ratelimit        how often a caller may come
leftovers        quotes and ${NAME} that another program left
"""
