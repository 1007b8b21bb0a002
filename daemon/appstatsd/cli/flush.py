"""`appstatsd flush`: have everything that was acknowledged written to the database now."""

from __future__ import annotations

import click

from appstatsd.cli import exits
from appstatsd.cli.client import ANSWER_SECONDS, Refused, connect
from appstatsd.cli.options import REACHING_A_DAEMON, SettingsCommand, with_settings
from appstatsd.settings import Settings


@click.command(cls=SettingsCommand)
@with_settings(REACHING_A_DAEMON)
def flush(settings: Settings) -> int:
    """Write what was reported to the database now.

    Waits until every resulting row is committed. Exit status 1, and the reason, where the database does not take the
    rows; they stay in the backlog.
    """
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    # A call may find a flush under way, and then waits for that one and for its own.
    seconds = 2 * settings.flush_timeout_seconds + ANSWER_SECONDS
    with connect(settings) as daemon:
        try:
            answer = daemon.call("SessionReportService/Flush", wire.FlushRequest(), wire.FlushResponse, seconds)
        except Refused as refused:
            raise exits.Failed(f"not flushed: {refused}") from None
    click.echo(f"{answer.rows_written:,} rows written, {answer.backlog_rows:,} in the backlog")
    return exits.OK
