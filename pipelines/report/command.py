"""What `report` does around the page: which changes it shows, and the files it writes."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import dlt

from dlt_cronofy import formatting as wording
from dlt_cronofy.source.durations import parse_duration
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.files import replace_file
from dlt_cronofy.source.tables import Row

from . import worklist
from .contents import EarlierReport, Report, Since, read_report
from .mail import configured_mail
from .page import earlier_report, is_report, render_page

CSV_COLUMNS = (
    *("customer", "email_domain", "name", "email", "account_id", "token_keys"),
    *("reason", "provider", "profile_type", "profile_name", "profile_id"),
    *("since", "since_known", "days", "evidence_age_seconds", "url"),
)
# a program for tables takes a text that begins like this for a formula
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_report(
    pipeline: dlt.Pipeline, output: Path, since: Since | None, *, anonymous: bool, table: Path | None = None
) -> Report:
    """Make the report and put it into a file, in place of an earlier one.

    Args:
        pipeline: whose dataset it is about.
        output: the file. If it is an earlier report of the same dataset, changes since then are shown.
        since: show what changed after that instead.
        anonymous: leave out e-mails, names and links.
        table: where to write the whole worklist as CSV, too.

    Raises:
        ConfigurationError: a file is something else, or cannot be written; the words of the mails are not
            usable; or nothing was loaded yet.
    """
    earlier, mail = _earlier(output), configured_mail()
    if table is not None:
        _check_table(table)
    report = read_report(pipeline, since, earlier, anonymous=anonymous)
    # people's addresses: for its owner only, unless an earlier one was not
    _replace("--output", output, render_page(report, mail).encode())
    if table is not None:
        _replace("--csv", table, worklist_csv(report.health.actions))
    return report


def worklist_csv(actions: Iterable[Row]) -> bytes:
    """The worklist as CSV in UTF-8, in the order of the page; no text of it is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for part in worklist.parts(actions):
        for group in part.groups:
            writer.writerows([_cell(row[name]) for name in CSV_COLUMNS] for row in group.rows)
    # with a mark, without which Excel reads another encoding
    return text.getvalue().encode("utf-8-sig")


def parse_since(text: str) -> Since:
    """An age such as 7d, or a UTC time such as 2026-01-31 or 2026-01-31T06:00.

    Raises:
        ValueError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return parse_duration(text)
        except ValueError as error:
            raise ValueError(f"{error}, or a time such as 2026-01-31T06:00") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def summary_line(report: Report, output: Path) -> str:
    """What the report comes to, in a line."""
    actions = report.health.actions
    if report.health.as_of is None:
        return f"{output}: nothing was polled yet"
    reasons = f" ({', '.join(worklist.counted(actions))})" if actions else ""
    line = f"{output}: {worklist.headline(actions)}{reasons}"
    if report.is_first_look:
        return f"{line}; this is the first look"
    since = f"{wording.instant(report.since)} UTC"
    if report.since_last_report:
        since += ", the last report"
    return f"{line}; {report.broke:,} broke and {report.relinked:,} relinked since {since}"


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(value, float):
        return round(value, 2)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _replace(option: str, file: Path, content: bytes) -> None:
    try:
        replace_file(file, content)
    except OSError as error:
        raise ConfigurationError(f"{option} {file}: {error.strerror}") from None


def _earlier(output: Path) -> EarlierReport | None:
    page = _text("--output", output)
    if page and not is_report(page):
        raise ConfigurationError(f"--output {output}: is not an earlier report; name another file")
    return earlier_report(page) if page else None


def _check_table(table: Path) -> None:
    """Nothing but an earlier table is replaced."""
    text = _text("--csv", table)
    if text and not text.removeprefix("\ufeff").startswith(",".join(CSV_COLUMNS)):
        raise ConfigurationError(f"--csv {table}: is not an earlier table; name another file")


def _text(option: str, file: Path) -> str | None:
    """What is in a file that is to be replaced; None where there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"{option} {file}: {reason}") from None
