"""Tuning: every constant of the limits in one place. Times in seconds."""

# --- concurrency
# more cost throughput (benchmarks/); fewer would let ordinary answers hold up the rest
MAX_IN_FLIGHT = 64
# a request that takes longer lets another one begin, so that hanging ones hold up nobody
SLOW_SECONDS = 1.0
# from the request for a new access token until the store has it. With rotating refresh tokens so many are
# lost at most when the store fails in the middle of a run
MAX_REFRESHES_IN_FLIGHT = 8

# --- attempts
# full jitter: each wait is drawn from [0, min(MAX, BASE * 2^retries)]
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 20.0
# longest Retry-After that is waited for; beyond it the next run tries again
MAX_RETRY_AFTER_SECONDS = 60.0
# what did not answer in all its time is asked once more, not again and again: it holds up a run
MAX_ATTEMPTS_AFTER_TIMEOUT = 2
# one for the access token, one more where the store held a newer one that had expired as well
MAX_REFRESHES = 2

# --- retry budget
# while no more answers than these in a row were bad, the server is well and each token has all its tries
DOUBT_AFTER = 10
# in doubt, that share of the tokens of a run
RETRY_SHARE = 0.1
# so few tokens are no load on anybody
FEW_TOKENS = 10

# --- circuit breaker
# that many troubled answers in a row, and none that was good between them
TRIPS_AFTER = 30
# after a trip one poll at a time finds out whether it is over: 1, 2, 4 and 8 s later
PROBES = 4
# how often a waiting poll looks again
LOOK_AGAIN_SECONDS = 0.25
# a single token's 402 says nothing of the application
PLAN_REFUSALS = 3

# --- rate limiter
# how often a caller looks again when only answers still under way can free a slot
IN_FLIGHT_CHECK_SECONDS = 0.005
# first pause after a 429 without Retry-After: by then a window of one second is empty
FIRST_PAUSE_SECONDS = 1.0
# longest one. A window of a minute empties call by call, so there is room again at any time; one call in
# eight seconds finds it soon, and is next to nothing even where refused calls count
MAX_PAUSE_SECONDS = 8.0
# after a pause calls go one at a time, then two, three …; beyond that many nothing holds them back
CAREFUL_UP_TO = 16
# and one that takes longer to answer holds up nobody
CAREFUL_SECONDS = 1.0
# how long a waiting caller may take to notice that its run was stopped
LONGEST_SLEEP_SECONDS = 1.0
# shorter waits are the rhythm of the work, longer ones are logged
ANNOUNCED_WAIT_SECONDS = 5.0

# --- shared rate limiter
# from permission to arrival
MARGIN_SECONDS = 1.0
# a permission not used by then is dropped: the margin is for the way to the server
USED_WITHIN_SECONDS = 0.4
# so few are drawn at once that a busy process uses them in time
MOST_AT_ONCE = 16
# what does not answer in that time is taken for gone; a log that was fine is tried once more
PATIENCE_SECONDS = 5.0
TRIES, TRY_AGAIN_SECONDS = 2, 0.5

# --- token refresh
# a token endpoint that failed so often is left alone for the rest of the run
MAX_FAILURES_IN_A_ROW = 20
# and so often where it has answered nothing yet that could be kept
MAX_UNREADABLE = 3
