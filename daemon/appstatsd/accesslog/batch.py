"""How do sessions that an access log tells of become a batch, as a client would send it?

So that the journal, the ledger and the collector need not know where it came from. It has no number: nobody acknowledges
it to the proxy, which sends nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appstatsd.accesslog.envoy import Told
from appstatsd.accesslog.naming import NamedApp
from appstatsd.wire.appstats.v1.appstats_pb2 import AccessMethod, App, StreamReportsRequest

MAX_REPORTS: Final = 250
"""How many reports go into one batch: enough that a batch costs little, few enough that making one keeps nobody waiting."""


def batch(sessions: Sequence[Told]) -> bytes:
    """The sessions as a serialized StreamReportsRequest, in columns."""
    places: dict[NamedApp, int] = {}
    message = StreamReportsRequest()
    columns = message.columns
    columns.app.extend([places.setdefault(told.app, len(places)) for told in sessions])
    columns.apps.extend(map(_app, places))
    columns.session_ids = b"".join([told.session_id for told in sessions])
    columns.session_started_at_unix_nano.extend([told.started_ns for told in sessions])
    columns.session_ended_at_unix_nano.extend([told.ended_ns for told in sessions])
    columns.requests.extend([1] * len(sessions))
    return message.SerializeToString()


def _app(app: NamedApp) -> App:
    return App(
        user_id=app.user_id,
        workspace_id=app.workspace_id,
        agent_id=app.agent_id,
        access_method=AccessMethod.Name(app.access_method),
        slug_or_port=app.slug_or_port,
    )
