"""`appstatsd usage`: who or what was used, and for how long?"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from appstatsd.cli import exits
from appstatsd.cli.database import REACHING_THE_ROWS, url_of
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import Settings
from appstatsd.values import Duration

if TYPE_CHECKING:
    from appstatsd.store.usage import Used

_BY: Final = ("user", "workspace", "app", "method")
_PIPE_COLUMNS: Final = 160
_AGO: Final = Duration("1s", "36500d")


class Moment(click.ParamType[datetime]):
    """A time, or how long ago: `7d`, `2026-11-24`, `2026-11-24T08:00:00Z`; without a zone it is UTC."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment that the text stands for."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            return datetime.now(UTC) - timedelta(microseconds=_AGO.parse(text))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is no time: expected is how long ago, as in 7d, or a time, as in 2026-11-24T08:00Z",
                param,
                ctx,
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command(cls=SettingsCommand)
@click.option("--by", type=click.Choice(_BY), default="user", show_default=True, help="What use is summed by.")
@click.option("--since", type=Moment(), default="7d", show_default=True, help="Begin: how long ago, or a time.")
@click.option("--until", type=Moment(), help="End, likewise. Default: now.")
@click.option("--limit", type=click.IntRange(min=1), default=30, show_default=True, help="Lines of the table or plot.")
@click.option("--json", "as_json", is_flag=True, help="All lines as one JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="All lines as CSV.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw into this file: .svg or .png.")
@with_settings(REACHING_THE_ROWS)
def usage(
    settings: Settings,
    by: str,
    since: datetime,
    until: datetime | None,
    limit: int,
    as_json: bool,
    as_csv: bool,
    plot: Path | None,
) -> int:
    """Show for how long each user, workspace, app or access method was in use.

    Time with several sessions of one user is counted once. Each roll-up window in which somebody had short sessions counts
    in full. How often something was opened, and its requests, are those of sessions that began in the span.
    """
    until = until or datetime.now(UTC)
    _check(since, until, as_json, as_csv, plot)
    url = url_of(settings)
    from appstatsd.store.usage import reading
    from appstatsd.store.usage import usage as ask

    with reading(url) as connection:
        found = ask(connection, by, since, until)
    if as_json:
        asked = {"by": by, "since": since.isoformat(), "until": until.isoformat()}
        lines = [asdict(used) for used in found]
        click.echo(json.dumps(asked | {"usage": lines}, indent=2, default=datetime.isoformat))
    elif as_csv:
        _write_csv(by, found)
    elif plot is not None:
        from appstatsd.cli.usage_plot import draw

        draw(found[:limit], by, since, until, plot)
        click.echo(f"drew {plot}")
    else:
        from rich.console import Console

        from appstatsd.cli.usage_page import page

        console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
        console.print(page(found, by, since, until, limit))
    return exits.OK


def _check(since: datetime, until: datetime, as_json: bool, as_csv: bool, plot: Path | None) -> None:
    if as_json + as_csv + (plot is not None) > 1:
        raise click.UsageError("--json, --csv and --plot exclude each other; give one of them")
    if since >= until:
        raise click.UsageError(f"--since ({since.isoformat()}) must lie before --until ({until.isoformat()})")
    if plot is not None:
        from appstatsd.cli.usage_plot import check

        check(plot)


def _write_csv(by: str, found: Sequence[Used]) -> None:
    from appstatsd.store.usage import Used

    writer = csv.writer(sys.stdout)
    writer.writerow([by, *(field.name for field in fields(Used)[1:])])
    for used in found:
        writer.writerow(value.isoformat() if isinstance(value, datetime) else value for value in astuple(used))
