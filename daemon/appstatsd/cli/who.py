"""`appstatsd who`: what is in use now, since when and by which app; and what was before?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import click

from appstatsd.cli import exits
from appstatsd.cli.database import REACHING_THE_ROWS, url_of
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import Settings

if TYPE_CHECKING:
    from appstatsd.store.usage import Who

_LATELY: Final = 5
_PIPE_COLUMNS: Final = 160


@click.command(cls=SettingsCommand)
@click.argument("workspace", type=click.UUID, required=False)
@click.option("--user", type=click.UUID, metavar="UUID", help="What this user uses; with WORKSPACE, there alone.")
@click.option(
    "--last",
    "lately",
    type=click.IntRange(min=0),
    default=_LATELY,
    show_default=True,
    help="How many sessions to show that are over.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; times as in RFC 3339, UTC.")
@with_settings((*REACHING_THE_ROWS, "report-interval"))
def who(settings: Settings, workspace: UUID | None, user: UUID | None, lately: int, as_json: bool) -> int:
    """Show who uses WORKSPACE now, since when and by which app, and its last uses before that.

    WORKSPACE and --user are UUIDs; at least one of them is needed. A session shows up here once it has lasted for a
    roll-up window and a report interval; shorter ones stand among those that are over.
    """
    if workspace is None and user is None:
        raise click.UsageError("give a WORKSPACE, or --user, or both")
    url = url_of(settings)
    from appstatsd.store.usage import reading
    from appstatsd.store.usage import who as ask

    with reading(url) as connection:
        answer = ask(connection, workspace, user, lately)
    if as_json:
        asked = {"workspace_id": _text(workspace), "user_id": _text(user)}
        click.echo(json.dumps(asked | asdict(answer), indent=2, default=datetime.isoformat))
        return exits.OK
    _print(answer, workspace, user, settings.report_interval_seconds)
    return exits.OK


def _text(given: UUID | None) -> str | None:
    return None if given is None else str(given)


def _print(answer: Who, workspace: UUID | None, user: UUID | None, interval_seconds: float) -> None:
    from rich.console import Console

    from appstatsd.cli.who_page import page

    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    console.print(page(answer, _text(workspace), _text(user), interval_seconds))
