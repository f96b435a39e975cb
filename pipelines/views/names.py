"""The names of the views, and of the tables that they read."""

VIEWS: tuple[str, ...] = (
    "_as_of",
    "_periods",
    "_reasons",
    "_days",
    "_profile_names",
    "_accounts",
    "_state_runs",
    "profile_intervals",
    "_profile_times",
    "outages",
    "token_health",
    "_profiles_now",
    "needs_action",
    "profile_health",
    "needs_relink",
    "connectivity_daily",
    "_day_steps",
    "provider_daily",
    "provider_health",
    "customer_daily",
    "customer_health",
    "profile_history",
    "stock_daily",
    "freshness",
    "account_health",
    "time_to_relink",
    "relink_cohorts",
    "mass_events",
    "flapping_profiles",
    "poll_coverage",
    "poll_log",
)
"""All views, each after those it reads."""

PUBLIC_VIEWS: tuple[str, ...] = tuple(view for view in VIEWS if not view.startswith("_"))
"""The views that people query."""

FORMER_VIEWS: tuple[str, ...] = (
    "_daily_states",
    "_intervals",
    "_outages",
    "_sample_spans",
    "_sample_buckets",
    "_newest_samples",
    "_samples",
    "_attempts",
    "_newest_poll",
)
"""Views of earlier releases that are no more, each before those it read."""

TABLES: tuple[str, ...] = (
    "userinfo",
    "account",
    "profiles",
    "calendars",
    "profile_changes",
    "polls",
    "token_status",
    "coverage",
    "runs",
)
"""The tables that the views read; all of them must exist before the views are created."""

MARKER = "_definitions"
"""A view that says what the others were made from: looking there takes less time than making them again."""
