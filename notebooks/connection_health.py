# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""Connection health, to look around in: the figures of the report, with filters.

    .venv/bin/marimo run notebooks/connection_health.py

It reads the warehouse that dlt is configured for, as the commands do. The environment variables
`DESTINATION_TYPE` and `DATASET` name another destination and dataset. In the app, tables can be sorted,
searched and downloaded; executed for Jupyter they are plain and whole.
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
    from dlt_cronofy.report.listing import as_html, listed
    from dlt_cronofy.report.survival import halves
    from dlt_cronofy.source.errors import ConfigurationError
    from dlt_cronofy.warehouse.dataset import loaded_dataset
    from dlt_cronofy.warehouse.pipeline import location, open_pipeline

    # in pixels, on a phone and on paper
    NARROW, WIDE = 290, 760
    # whether the page is light or dark is known to the browser alone
    PALETTE = charts.EITHER


@app.function
def shown_rows(rows: pd.DataFrame, *, interactive: bool) -> mo.Html:
    """Rows to look around in; where nobody can, all of them."""
    if rows.empty:
        return mo.md("*None.*")
    if not interactive:
        return mo.Html(as_html(rows))
    return mo.ui.table(
        rows,
        selection=None,
        page_size=15,
        show_column_summaries=False,
        show_data_types=False,
        show_download=True,
    )


@app.cell
def _():
    # an export has the mode of the editor, but no browser asks for it
    interactive = mo.app_meta().request is not None
    width = NARROW if interactive else WIDE
    return interactive, width


@app.function
def stretched(chart: charts.Drawn, *, interactive: bool) -> charts.Drawn:
    """A chart as wide as the window; a picture of it has a width of its own."""
    return chart.properties(width="container") if interactive else chart


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
    _left = (
        f"{wording.count(health.left_accounts, 'account')} left and not counted."
        if health.left_accounts
        else ""
    )
    mo.md(f"""
    # Connection health

    {len(health.open_outages):,} connections are down: of {sum(states.values()):,} profiles of
    {wording.count(health.accounts, "account")}, {states["connected"]:,} are connected,
    {states["disconnected"]:,} disconnected and {states["unknown"]:,} unknown. {_left}

    As of {wording.instant(health.as_of)} UTC, the newest poll; data since {wording.instant(health.since)}.
    Uptime {wording.percent(health.uptime)} of the observed time; {wording.percent(health.coverage)} of the
    time was observed. *Unknown is not down: it is time that was not observed.*
    From {location(pipeline)}, dataset {pipeline.dataset_name}.
    """)
    return


@app.cell
def _(health):
    _providers = sorted(row["provider"] for row in health.providers)
    provider = mo.ui.dropdown(
        {"all providers": None, **{f"{wording.provider_name(name)} ({name})": name for name in _providers}},
        value="all providers",
        label="Provider",
    )
    search = mo.ui.text(label="Search", placeholder="e-mail, name or customer", debounce=True)
    all_days = (health.since.date(), health.as_of.date())
    period = mo.ui.date_range(start=all_days[0], stop=all_days[1], value=all_days, label="UTC days")
    mo.hstack([search, provider, period], justify="start", wrap=True)
    return all_days, period, provider, search


@app.cell
def _(all_days, period, provider, search):
    # all days: no restriction, so that outages first seen on none of them count too
    _days = (None, None) if tuple(period.value) == all_days else period.value
    scope = figures.Scope(provider.value, None, *_days, search=search.value.strip() or None)
    return (scope,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Who needs action

    Most urgent first, on whatever day it began. Every open outage is here, with `relink` to do. A link lets
    anyone who opens it act for that person: send it to nobody else.
    """)
    return


@app.cell
def _(interactive, read, scope):
    worklist = shown_rows(listed(figures.read_actions(read, scope)), interactive=interactive)
    worklist
    return


@app.cell
def _(read):
    people = read("SELECT account_id, customer, email, name FROM account_health")
    return (people,)


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

    The share of the observed profile time that was disconnected. Grey is time that was not observed: the
    darker the day, the less is known of it.
    """)
    return


@app.cell
def _(interactive, totals, width):
    stretched(charts.draw_disconnected(totals, PALETTE, width), interactive=interactive)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ### By provider

    On one scale, the providers with most profiles; at most twelve.
    """)
    return


@app.cell
def _(days, width):
    _named = days.assign(provider=days["provider"].map(wording.provider_name))
    charts.draw_providers(figures.add_up(_named, ["provider", "day"]), PALETTE, width)
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
def _(outages, totals, width):
    charts.draw_calendar(figures.starts_by_day(outages, totals), PALETTE, width)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Outages, the newest first

    What the search above finds, or everybody; first seen on the days above. Durations are in days.
    """)
    return


@app.cell
def _(interactive, outages, people, scope):
    # of everybody that is too long for a page that cannot be paged through
    mo.stop(not interactive and scope.search is None, mo.md(f"{wording.count(len(outages), 'outage')}."))
    history = shown_rows(listed(outages[::-1], people), interactive=interactive)
    history
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
    mo.stop(curves.empty, mo.md("*No connection has been relinked yet.*"))
    medians = halves(curves)
    largest = medians[medians["provider"] != figures.ALL].nlargest(4, "relinked")
    return curves, largest, medians


@app.cell
def _(curves, interactive, scope, width):
    # of one provider there is no curve of all
    whole = curves[curves["provider"] == (scope.provider or figures.ALL)]
    stretched(charts.draw_survival(whole, PALETTE, width), interactive=interactive)
    return


@app.cell
def _(curves, interactive, largest, width):
    several = curves[curves["provider"].isin(largest["provider"])]
    mo.stop(several.empty, mo.md("*No connection has been relinked yet.*"))
    # beside the curves the names would not fit on a phone
    _legend_above = charts.draw_survival(several, PALETTE, width).configure_legend(
        orient="top", columns=2, labelColor=PALETTE.ink, symbolType="square"
    )
    stretched(_legend_above, interactive=interactive)
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
    worded = medians.assign(
        provider=medians["provider"].map(wording.provider_name),
        **{name: medians[name].map(wording.duration) for name in times},
    )
    mo.Html(as_html(worded.set_axis(["provider", "relinked", "median", "at least", "at most"], axis=1)))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Unstable connections

    Profiles with three or more outages first seen in the last 30 days.
    """)
    return


@app.cell
def _(interactive, people, read, scope):
    unstable = shown_rows(listed(figures.read_flapping(read, scope), people), interactive=interactive)
    unstable
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## When each account was last checked

    Tokens by the time since their last successful poll.
    """)
    return


@app.cell
def _(health, read, scope, width):
    tokens = figures.read_tokens(read, scope)
    charts.draw_freshness(figures.freshness(tokens, health.as_of), PALETTE, width)
    return (tokens,)


@app.cell
def _(tokens):
    failing = tokens[tokens["failing_since"].notna()]
    mo.md(f"{wording.count(len(failing), 'token')} could not be read when last tried:")
    return (failing,)


@app.cell
def _(failing, interactive, people):
    _whose = people.drop(columns=[name for name in people if name in failing and name != "account_id"])
    unread = shown_rows(listed(failing, _whose), interactive=interactive)
    unread
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## How polling went

    Polls of all tokens by UTC day and outcome. A day without a bar is a day without a load.
    """)
    return


@app.cell
def _(read, scope, width):
    charts.draw_polls(figures.read_polls(read, scope), PALETTE, width)
    return


if __name__ == "__main__":
    app.run()
