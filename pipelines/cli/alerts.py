"""`dlt-cronofy alerts`."""

import logging
import sys

import click

from .console import LOAD_FAILED
from .options import destination_options, json_option, print_json

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Show what the newest load had to say; --test tries the receiver.")
@click.option("--test", "is_test", is_flag=True, help="Send a test message to alerts_to, and nothing else.")
@json_option("the message")
@destination_options
def alerts(is_test: bool, as_json: bool, destination: str | None, dataset: str | None) -> None:
    """Show the alert of the newest finished load, as alerts_show has it; nothing is sent.

    Exit status: 0 shown, or the test message was delivered, 1 it was not, 2 bad configuration or usage.
    """
    from dlt_cronofy.alerts.messages import news_message, news_text
    from dlt_cronofy.alerts.news import find_news, newest_run
    from dlt_cronofy.alerts.sending import configured_show
    from dlt_cronofy.warehouse.dataset import loaded_dataset
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    if is_test:
        _send_test()
        return
    show = configured_show()
    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        run_id = newest_run(client)
        news = find_news(client, [run_id]) if run_id else None
    if as_json:
        print_json(news_message(news, show) if news else {})
    else:
        click.echo(news_text(news, show) if news else "no news")


def _send_test() -> None:
    from dlt_cronofy.alerts.sending import ATTEMPTS, configured_alerts
    from dlt_cronofy.source.errors import ConfigurationError

    configured = configured_alerts()
    if configured is None:
        raise ConfigurationError("alerts are off: set alerts_to in [sources.cronofy] of .dlt/secrets.toml")
    problem = configured.send_test()
    if problem is not None:
        logger.error(
            "%s got no test message, after %d tries: %s", configured.receiver.name, ATTEMPTS, problem
        )
        sys.exit(LOAD_FAILED)
    click.echo(f"{configured.receiver.name} got a test message")
