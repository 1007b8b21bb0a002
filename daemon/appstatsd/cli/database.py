"""Which database does a command read that asks for what was written?"""

from __future__ import annotations

from typing import Final

from appstatsd.cli import exits
from appstatsd.cli.options import REACHING_A_DAEMON
from appstatsd.settings import Settings

REACHING_THE_ROWS: Final = ("database-url", "database-url-file", *REACHING_A_DAEMON)
"""The settings of commands that read what was written."""


def url_of(settings: Settings) -> str:
    """The database's URL: as it is set, else that of the embedded PostgreSQL of a daemon that runs.

    Raises:
        exits.Failed: none is set, and no daemon says where its own is.
    """
    if settings.database_url is not None:
        return settings.database_url.text
    from appstatsd.cli.client import Refused, connect
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    request = wire.GetStatusRequest()
    try:
        with connect(settings) as daemon:
            status = daemon.call("SessionReportService/GetStatus", request, wire.GetStatusResponse)
    except (exits.Failed, Refused) as error:
        text = f"--database-url is not set, and there is no daemon to ask for its embedded PostgreSQL: {error}"
        raise exits.Failed(text, getattr(error, "status", exits.FAILED)) from None
    if not status.database_url:
        raise exits.Failed("--database-url is not set, and the daemon's embedded PostgreSQL does not run yet")
    return status.database_url
