"""Results on stdout, logs and progress on stderr."""

import io
import logging

import pytest

from pipelines.console import progress, result_console, set_up_logging

logger = logging.getLogger("dlt_cronofy")


@pytest.mark.parametrize(
    ("verbose", "shown"), [(False, ["INFO", "ERROR"]), (True, ["DEBUG", "INFO", "ERROR"])]
)
def test_logs_go_to_stderr(verbose: bool, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(verbose=verbose)
    set_up_logging(verbose=verbose)  # a second time adds no second line
    for level in (logging.DEBUG, logging.INFO, logging.ERROR):
        logger.log(level, "something happened")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[2] for line in err.splitlines()] == shown


def test_piped_results_are_plain_and_wide(capsys: pytest.CaptureFixture[str]) -> None:
    result_console().print("[bold]" + "x" * 110 + "[/]")
    assert capsys.readouterr() == ("x" * 110 + "\n", "")


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_logging(verbose=False)
    now = [0.0]
    monkeypatch.setattr("pipelines.console.time.monotonic", lambda: now[0])
    with progress("polling", "tokens") as (set_total, set_done):
        set_total(200)
        for done in range(0, 201, 10):
            now[0] += 1
            set_done(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition("INFO ")[2] for line in err.splitlines()] == [
        "polling: 90 of 200 tokens",
        "polling: 190 of 200 tokens",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar_that_goes_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("polling", "tokens") as (set_total, set_done):
        set_total(7)
        set_done(3)
    assert "polling" in terminal.getvalue()
    assert "3/7" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased
    assert capsys.readouterr().out == ""


def test_what_goes_wrong_inside_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="inside"), progress("polling", "tokens"):
        raise ValueError("inside")
