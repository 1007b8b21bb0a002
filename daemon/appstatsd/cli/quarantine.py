"""`appstatsd quarantine`: what did the database refuse for its content, and what is to become of it?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from appstatsd.cli import exits
from appstatsd.cli.client import Daemon, Refused, connect
from appstatsd.cli.options import REACHING_A_DAEMON, SettingsCommand, with_settings
from appstatsd.settings import Settings

if TYPE_CHECKING:
    from appstatsd.wire.appstats.v1.appstats_pb2 import QuarantinedRow

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@click.group()
def quarantine() -> None:
    """Deal with rows that the database refused.

    It refused them for their content; they are kept aside, and all others go on.
    """


@quarantine.command("list", cls=SettingsCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings(REACHING_A_DAEMON)
def list_rows(settings: Settings, as_json: bool) -> int:
    """Show the rows, and why each was refused."""
    count = 0
    with connect(settings) as daemon:
        for row in _rows(daemon):
            click.echo(json.dumps(_fields(row)) if as_json else _text(row))
            count += 1
    if not as_json:
        click.echo(f"{count:,} rows in quarantine")
    return exits.OK


def _some_or_all(command: Decorated) -> Decorated:
    """Take the ids of rows, or --all."""
    ids = click.argument("ids", nargs=-1, type=click.IntRange(min=1), metavar="[ID]...")
    return ids(click.option("--all", "everything", is_flag=True, help="All rows in quarantine.")(command))


@quarantine.command(cls=SettingsCommand)
@_some_or_all
@with_settings(REACHING_A_DAEMON)
def retry(settings: Settings, ids: tuple[int, ...], everything: bool) -> int:
    """Put rows back into the backlog.

    To be used once the cause is mended: the next flush writes them.
    """
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    _one_of(ids, everything)
    request = wire.RetryQuarantineRequest(ids=ids, all=everything)
    with connect(settings) as daemon:
        answer = _call(daemon, "RetryQuarantine", request, wire.RetryQuarantineResponse)
    click.echo(f"{answer.rows_retried:,} rows put back into the backlog")
    return _status(answer.unknown_ids)


@quarantine.command(cls=SettingsCommand)
@_some_or_all
@click.option("--yes", is_flag=True, help="Do not ask before all rows are dropped.")
@with_settings(REACHING_A_DAEMON)
def drop(settings: Settings, ids: tuple[int, ...], everything: bool, yes: bool) -> int:
    """Forget rows for good."""
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    _one_of(ids, everything)
    if everything and not yes:
        click.confirm("Drop all rows in quarantine for good?", abort=True, err=True)
    request = wire.DropQuarantineRequest(ids=ids, all=everything)
    with connect(settings) as daemon:
        answer = _call(daemon, "DropQuarantine", request, wire.DropQuarantineResponse)
    click.echo(f"{answer.rows_dropped:,} rows dropped")
    return _status(answer.unknown_ids)


def _one_of(ids: tuple[int, ...], everything: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("give the ids of rows (`appstatsd quarantine list` shows them) or --all, not both")


def _call(daemon: Daemon, name: str, request: Any, response: Any) -> Any:
    try:
        return daemon.call(f"QuarantineService/{name}", request, response)
    except Refused as refused:
        raise exits.Failed(f"the daemon at {daemon.address} refused: {refused}") from None


def _status(unknown_ids: list[int]) -> int:
    if unknown_ids:
        raise exits.Failed(f"not in quarantine: {', '.join(map(str, unknown_ids))}")
    return exits.OK


def _rows(daemon: Daemon) -> Iterator[QuarantinedRow]:
    """All rows, page by page."""
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    after_id = 0
    while True:
        request = wire.ListQuarantineRequest(after_id=after_id)
        rows = _call(daemon, "ListQuarantine", request, wire.ListQuarantineResponse).rows
        if not rows:
            return
        yield from rows
        after_id = rows[-1].id


def _fields(row: QuarantinedRow) -> dict[str, str | int]:
    """A row as it would stand in the table, and why it does not."""
    from appstatsd.collect.apps import METHODS

    return {
        "id": row.id,
        "quarantined_at": _time(row.quarantined_at_unix_nano),
        "sqlstate": row.sqlstate,
        "message": row.message,
        "user_id": _uuid(row.user_id),
        "workspace_id": _uuid(row.workspace_id),
        "agent_id": _uuid(row.agent_id),
        "access_method": METHODS[row.access_method],
        "slug_or_port": row.slug_or_port,
        "session_id": _uuid(row.session_id),
        "session_started_at": _time(row.session_started_at_unix_nano),
        "session_ended_at": _time(row.session_ended_at_unix_nano),
        "requests": row.requests,
        "sessions": row.sessions,
    }


def _text(row: QuarantinedRow) -> str:
    fields = _fields(row)
    rest = [f"  {name:<18}  {value}" for name, value in fields.items() if name not in ("id", "sqlstate", "message")]
    first = f"{row.id}: {row.sqlstate} {' '.join(row.message.split())}"
    return "\n".join((first, *rest, ""))


def _time(unix_nano: int) -> str:
    return datetime.fromtimestamp(unix_nano // 1_000 / 1e6, UTC).isoformat(timespec="microseconds")


def _uuid(octets: bytes) -> str:
    """A UUID; a row that was refused may well hold something else."""
    return str(UUID(bytes=octets)) if len(octets) == 16 else octets.hex()
