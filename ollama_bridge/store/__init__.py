"""The state behind limits, budgets, breaker and cache: what several workers, or several instances, share.

shelf           what every store can do
embedded        SQLite in the state folder: shared by the workers of one machine, there after a restart
sliding windows tables   what the embedded one counts, and how
link  remote    Redis or Valkey, shared by instances; falls back to the embedded one while it is away
"""
