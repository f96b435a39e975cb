"""Results on stdout, logs and progress on stderr."""

import io
import logging

import pytest

from dlt_cronofy.cli.console import Pace, progress, result_console, set_up_logging

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
    monkeypatch.setattr("dlt_cronofy.cli.console.time.monotonic", lambda: now[0])
    with progress("polling", "tokens") as (set_total, set_done):
        set_total(200)
        for done in range(0, 201, 10):
            now[0] += 1
            set_done(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition("INFO ")[2] for line in err.splitlines()] == [
        "polling: 90 of 200 tokens, about 13 s left",
        "polling: 190 of 200 tokens, about 2 s left",
    ]


@pytest.mark.parametrize(
    ("per_minute", "total", "done", "elapsed_seconds", "expected"),
    [
        (None, 0, 0, 5, None),  # what is to do is not known yet
        (None, 100, 0, 5, None),  # nothing to go by
        (400, 2000, 0, 0, 300),  # the rate limit alone
        (400, 2000, 1000, 150, 150),  # as fast as it allows
        (400, 2000, 1000, 300, 300),  # slower than it allows
        (400, 2000, 1000, 10, 150),  # a burst does not go on
        (None, 100, 50, 10, 10),
        (400, 100, 100, 10, 0),
    ],
)
def test_time_left_is_told_by_pace_and_rate_limit(
    per_minute: float | None,
    total: int,
    done: int,
    elapsed_seconds: float,
    expected: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dlt_cronofy.cli.console.time.monotonic", lambda: elapsed_seconds)
    assert Pace(per_minute, total, done, started=0.0).seconds_left() == expected


@pytest.mark.parametrize(
    ("total", "expected"), [(50, []), (4000, ["polling: 4,000 tokens, about 10 min left"])]
)
def test_a_long_load_says_at_once_how_long(
    total: int, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(verbose=False)
    with progress("polling", "tokens", per_minute=400) as (set_total, _):
        set_total(total)
    assert [line.partition("INFO ")[2] for line in capsys.readouterr().err.splitlines()] == expected


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
