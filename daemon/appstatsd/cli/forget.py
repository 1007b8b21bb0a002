"""`appstatsd forget`: erase what is kept of a person."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

import click

from appstatsd.cli import exits
from appstatsd.cli.client import Daemon, Refused, connect
from appstatsd.cli.options import REACHING_A_DAEMON, SettingsCommand, with_settings
from appstatsd.settings import Settings

if TYPE_CHECKING:
    from appstatsd.wire.appstats.v1.appstats_pb2 import ForgetUserResponse

_STILL_THERE: Final = (
    "What proxies report of the person from now on makes new rows, so end the person's access first. Other daemons that "
    "heard of the person hold what they heard: run this at each (docs/privacy.md)."
)


@click.command(cls=SettingsCommand)
@click.option("--user", type=click.UUID, required=True, metavar="UUID", help="Whom to erase: a user_id.")
@click.option("--dry-run", is_flag=True, help="Say how much there is, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@with_settings(REACHING_A_DAEMON)
def forget(settings: Settings, user: UUID, dry_run: bool, yes: bool) -> int:
    """Erase a person: sessions, backlog, quarantine, and rows in the database.

    In the daemon's memory, in its state directory and in its database. workspaces.last_used_at stays. Exit status 1 where
    the database did not take part; what the daemon held is erased then, and the command is to be run again.
    """
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("nobody is there to be asked; give --yes, or --dry-run to see how much there is")
    with connect(settings) as daemon:
        if dry_run or not yes:
            there_is = _last(_ask(daemon, user, dry_run=True))
            click.echo(_text(there_is, "there are"))
            if dry_run:
                return _status(there_is, "not counted")
            click.confirm("Erase all of it for good?", abort=True, err=True)
        erased = _last(_ask(daemon, user, dry_run=False))
    click.echo(_text(erased, "erased"))
    click.echo(_STILL_THERE, err=True)
    return _status(erased, "not erased, so run this again once it is there")


def _ask(daemon: Daemon, user: UUID, *, dry_run: bool) -> Iterator[ForgetUserResponse]:
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    request = wire.ForgetUserRequest(user_id=user.bytes, dry_run=dry_run)
    try:
        yield from daemon.stream("ErasureService/ForgetUser", request, wire.ForgetUserResponse)
    except Refused as refused:
        raise exits.Failed(f"the daemon at {daemon.address} refused: {refused}") from None


def _last(answers: Iterator[ForgetUserResponse]) -> ForgetUserResponse:
    """The last answer, which has it all; of those before, how far it is, where somebody looks on."""
    answer = next(answers)
    for answer in answers:
        if sys.stderr.isatty():
            click.echo(f"{answer.database_rows:,} rows of the database erased so far", err=True)
    return answer


def _text(answer: ForgetUserResponse, what: str) -> str:
    lines = [
        f"{what}: {answer.live_sessions:,} live sessions, {answer.ended_sessions:,} that have ended, in "
        f"{answer.groups:,} groups",
        f"{what}: {answer.backlog_rows:,} rows in the backlog, {answer.quarantined_rows:,} in quarantine",
        f"{what}: {answer.database_rows:,} rows in the database",
    ]
    if answer.files_set_aside:
        names = ", ".join(answer.files_set_aside)
        lines.append(f"left: files set aside after damage, which may hold more; remove them by hand: {names}")
    return "\n".join(lines)


def _status(answer: ForgetUserResponse, what: str) -> int:
    if answer.database_error:
        raise exits.Failed(f"rows in the database are {what}: {answer.database_error}")
    return exits.OK
