"""`dlt-cronofy completion`."""

import logging

import click

from dlt_cronofy.formatting import PROGRAM

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Print a script that completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    For bash: dlt-cronofy completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(
        found(
            click.get_current_context().find_root().command,
            {},
            PROGRAM,
            f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE",
        ).source()
    )
