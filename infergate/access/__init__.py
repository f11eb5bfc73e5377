"""Who may come in, and how much.

admission   the order of the questions, and what a refusal costs
keysfile    keys as people write them
options     what may stand behind a key, and the policies made of it
jwts        who is calling: JSON Web Tokens
jwks        the keys that tokens are verified with
auth        who is calling: API keys
algorithms  the names of the algorithms of tokens
policy      what a caller may do, as one value
ratelimit   how often a caller may come
"""
