"""`appstatsd import`: rows out of access-log files."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import click

from appstatsd.cli import exits
from appstatsd.cli.checks import check_access_logs
from appstatsd.cli.database import REACHING_THE_ROWS, url_of
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from appstatsd.backfill.importer import Totals

_SETTINGS: Final = (
    *REACHING_THE_ROWS,
    *("last-used-at", "rollup-window", "max-session-age", "max-clock-skew"),
    *("als-user", "als-workspace", "als-agent", "als-access-method", "als-slug-or-port", "als-host-pattern"),
    "als-namespace",
)
_BATCH_ROWS: Final = 10_000
"""Rows of a transaction: nobody waits for them, so it is more than the daemon's."""
_GZIP: Final = b"\x1f\x8b"


@click.command("import", cls=SettingsCommand)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_settings(_SETTINGS)
def import_logs(settings: Settings, files: Sequence[Path]) -> int:
    """Make rows of the requests in FILES: access logs in the combined log format or Caddy's JSON, plain or gzipped.

    --als-* say where in a line the names of an app stand. A file that is imported again writes the rows that it wrote.
    """
    naming = settings.naming
    if naming is None:
        raise click.UsageError("say with --als-user and the other --als-* where in a line the names of an app stand")
    check_access_logs(settings)
    url = url_of(settings)
    from rich.console import Console

    from appstatsd.backfill.importer import Totals, rows_of
    from appstatsd.observe.logging import configure
    from appstatsd.store.schema import LastUsedAt
    from appstatsd.store.writer import PostgresReporter

    configure("warning", "console", sys.stderr)
    console = Console(stderr=True)
    found = Totals()
    reporter = PostgresReporter(
        url,
        flush_timeout_seconds=settings.flush_timeout_seconds,
        max_clock_skew_us=settings.max_clock_skew_us,
        last_used_at=LastUsedAt(settings.last_used_at),
    )
    with reporter:
        for path in files:
            totals = Totals()
            with _opened(path) as (file, position), _shown(console, path, position) as step:
                rows = rows_of(file, naming, settings.rules(), time.time_ns() // 1000, totals, step)
                for batch in rows.batches(_BATCH_ROWS):
                    reporter.report(batch)
                    totals.rows += len(batch)
            found.add(totals)
            click.echo(f"{path}: {_said(totals)}")
    if len(files) > 1:
        click.echo(f"all: {_said(found)}")
    return exits.OK


def _said(totals: Totals) -> str:
    """The totals in a line, with the reason of each line that was passed over."""
    parts = [f"{totals.lines:,} lines, {totals.requests:,} requests, {totals.rows:,} rows"]
    parts += [f"{count:,} skipped: {_reason(reason)}" for reason, count in totals.skipped.most_common()]
    return "; ".join(parts)


def _reason(reason: object) -> str:
    value = getattr(reason, "value", reason)
    return value if isinstance(value, str) else f"rejected as {getattr(reason, 'name', reason)}".lower()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The file's content, and how far in the file reading has come.

    Raises:
        exits.Failed: it cannot be read.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            with gzip.open(raw) if zipped else nullcontext(raw) as file:
                yield cast(BinaryIO, file), raw.tell
    except (OSError, EOFError) as error:
        raise exits.Failed(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def _shown(console: Console, path: Path, position: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """A bar that shows how far reading has come, where there is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(path.name.replace("[", "\\["), total=path.stat().st_size)
        yield lambda: progress.update(task, completed=position())
