"""The state behind limits, budgets, breaker and cache: what several workers, or several instances, share.

shelf               what every store can do
arithmetic          how much is left of a rate or a purse, and when there is enough again
embedded            SQLite in the state folder: shared by the workers of one machine, there after a restart
tables  windows     what is done to its tables
lane                the thread in which it is done
link  remote        Redis or Valkey, shared by instances; falls back to the embedded one while it is away
vaults              which depot a vault has: file_depot, redis_depot, or none
scripts             what Redis does at one stroke
"""
