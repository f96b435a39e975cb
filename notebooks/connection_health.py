"""Connection health, to look around in: the figures of the report, with filters.

    .venv/bin/marimo run notebooks/connection_health.py

It reads the warehouse that dlt is configured for, as the commands do. The environment variables
`DESTINATION_TYPE` and `DATASET` name another destination and dataset.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Connection health")

with app.setup:
    import os

    import marimo as mo
    import pandas as pd

    from dlt_cronofy import formatting as wording
    from dlt_cronofy.report import charts, figures
    from dlt_cronofy.report.frames import frame_reader
    from dlt_cronofy.report.health import read_health
    from dlt_cronofy.report.survival import halves
    from dlt_cronofy.source.errors import ConfigurationError
    from dlt_cronofy.warehouse.dataset import loaded_dataset
    from dlt_cronofy.warehouse.pipeline import location, open_pipeline

    WIDTH, ROWS = 760, 20


@app.cell
def _():
    pipeline = open_pipeline(os.environ.get("DESTINATION_TYPE"), os.environ.get("DATASET"))
    try:
        with loaded_dataset(pipeline) as client:
            health = read_health(client)
        nothing = None if health.as_of else "Nothing was polled yet. Run `dlt-cronofy load`."
    except ConfigurationError as error:
        health, nothing = None, str(error)
    mo.stop(nothing is not None, mo.md(f"# Connection health\n\n{nothing}"))
    read = frame_reader(pipeline)
    return health, pipeline, read


@app.cell
def _(health, pipeline):
    states = health.states
    mo.md(f"""
    # Connection health

    {len(health.open_outages):,} connections are down: of {sum(states.values()):,} profiles of
    {wording.count(health.accounts, "account")}, {states["connected"]:,} are connected,
    {states["disconnected"]:,} disconnected and {states["unknown"]:,} unknown.

    As of {wording.instant(health.as_of)} UTC, the newest poll; data since {wording.instant(health.since)}.
    Uptime {wording.percent(health.uptime)} of the observed time; {wording.percent(health.coverage)} of the
    time was observed. *Unknown is not down: it is time that was not observed.*
    From {location(pipeline)}, dataset {pipeline.dataset_name}.
    """)
    return


@app.cell
def _(health):
    provider = mo.ui.dropdown(
        sorted(row["provider"] for row in health.providers if row["provider"]), label="provider"
    )
    account = mo.ui.text(label="account_id", placeholder="acc_…", debounce=True)
    all_days = (health.since.date(), health.as_of.date())
    period = mo.ui.date_range(start=all_days[0], stop=all_days[1], value=all_days, label="UTC days")
    mo.hstack([provider, account, period], justify="start", wrap=True)
    return account, all_days, period, provider


@app.cell
def _(account, all_days, period, provider):
    # all days: no restriction, so that outages first seen on none of them count too
    _days = (None, None) if tuple(period.value) == all_days else period.value
    scope = figures.Scope(provider.value, account.value.strip() or None, *_days)
    return (scope,)


@app.cell
def _(read, scope):
    days = figures.read_days(read, scope)
    totals = figures.add_up(days, ["day"])
    outages = figures.read_outages(read, scope)
    mo.stop(totals.empty, mo.md("**No profile was seen in this part of the history.**"))
    return days, outages, totals


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Connectivity over time

    The share of the observed profile time that was disconnected. Grey is time nobody observed: the darker
    the day, the less is known of it.
    """)
    return


@app.cell
def _(totals):
    charts.draw_disconnected(totals, width=WIDTH)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ### By provider

    On one scale, the providers with most profiles; at most twelve.
    """)
    return


@app.cell
def _(days):
    charts.draw_providers(figures.add_up(days, ["provider", "day"]), width=WIDTH)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Open outages

    Of the provider and account above, on whatever days they began; longest first. `started_after` is empty
    where a profile was down when it was first seen.
    """)
    return


@app.cell
def _(health, scope):
    open_outages = pd.DataFrame(
        [
            row
            for row in health.open_outages
            if scope.provider in (None, row["provider"]) and scope.account_id in (None, row["account_id"])
        ]
    )
    mo.plain(open_outages.head(ROWS)) if len(open_outages) else mo.md("*None.*")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## When connections broke

    Outages by the UTC day on which they were first seen. Those that were down when first seen are left out:
    they may have begun at any time before.
    """)
    return


@app.cell
def _(outages, totals):
    charts.draw_calendar(figures.starts_by_day(outages, totals), width=WIDTH)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## How long until somebody relinks

    Kaplan-Meier estimate of the share of outages not yet relinked, with pointwise 95 % confidence bands.
    Outages that were down when first seen are left out. Open ones, and those that ended by removal, count
    for as long as they were observed.
    """)
    return


@app.cell
def _(read, scope):
    curves = figures.read_curves(read, scope)
    mo.stop(curves.empty, mo.md("*Nobody has relinked yet.*"))
    medians = halves(curves)
    largest = medians[medians["provider"] != figures.ALL].nlargest(4, "relinked")
    return curves, largest, medians


@app.cell
def _(curves, scope):
    # of one provider there is no curve of all
    whole = curves[curves["provider"] == (scope.provider or figures.ALL)]
    charts.draw_survival(whole, width=WIDTH)
    return


@app.cell
def _(curves, largest):
    several = curves[curves["provider"].isin(largest["provider"])]
    charts.draw_survival(several, width=WIDTH) if len(several) else mo.md("*No calendar has relinked yet.*")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Median time to relink, with the bounds of its 95 % confidence interval:
    """)
    return


@app.cell
def _(medians):
    times = ["seconds", "lower_seconds", "upper_seconds"]
    worded = medians.assign(**{name: medians[name].map(wording.duration) for name in times})
    mo.plain(worded.set_axis(["provider", "relinked", "median", "at least", "at most"], axis=1))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Unstable connections

    Profiles with three or more outages first seen in the last 30 days.
    """)
    return


@app.cell
def _(read, scope):
    flapping = figures.read_flapping(read, scope)
    mo.plain(flapping.head(ROWS)) if len(flapping) else mo.md("*None.*")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## When each account was last checked

    Tokens by the time since their last successful poll.
    """)
    return


@app.cell
def _(health, read, scope):
    tokens = figures.read_tokens(read, scope)
    charts.draw_freshness(figures.freshness(tokens, health.as_of), width=WIDTH)
    return (tokens,)


@app.cell
def _(tokens):
    failing = tokens[tokens["failing_since"].notna()]
    mo.md(f"{wording.count(len(failing), 'token')} could not be read when last tried:")
    return (failing,)


@app.cell
def _(failing):
    mo.plain(failing.head(ROWS)) if len(failing) else mo.md("*None.*")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## How polling went

    Polls of all tokens by UTC day and outcome. A day without a bar is a day on which nobody looked.
    """)
    return


@app.cell
def _(read, scope):
    charts.draw_polls(figures.read_polls(read, scope), width=WIDTH)
    return


if __name__ == "__main__":
    app.run()
