"""How is the daemon doing? The answer to `GetStatus`, put together from all parts, at one moment of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import appstatsd
from appstatsd.clock import Clock
from appstatsd.deliver.deliverer import Deliverer
from appstatsd.flushes import Flushes
from appstatsd.ledger import Ledger
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

_MOST: Final = 2**64 - 1


class StatusPage:
    """Puts the status together."""

    def __init__(
        self,
        deliverer: Deliverer,
        flushes: Flushes,
        clock: Clock,
        *,
        open_streams: Callable[[], int],
        database_url: Callable[[], str],
        journal_bytes: Callable[[], int],
        journal_damage: Callable[[], str],
    ) -> None:
        self._deliverer = deliverer
        self._flushes = flushes
        self._clock = clock
        self._open_streams = open_streams
        self._database_url = database_url
        self._journal_bytes = journal_bytes
        self._journal_damage = journal_damage
        self._started_us = clock.wall_us()

    def __call__(self, ledger: Ledger) -> wire.GetStatusResponse:
        """The status; to be called on the drain's thread."""
        now_us = self._clock.wall_us()
        collector, tally, figures = ledger.collector, ledger.tally, self._deliverer.figures()
        live = collector.live_by_client()
        oldest_us = ledger.outbox.oldest_owing_us
        return wire.GetStatusResponse(
            version=appstatsd.__version__,
            started_at_unix_nano=self._started_us * 1000,
            live_sessions=int(live.sum()),
            groups=collector.groups,
            backlog_rows=len(ledger.outbox),
            oldest_backlog_age_seconds=0 if oldest_us is None else max(0, now_us - oldest_us) // 1_000_000,
            quarantined_rows=len(ledger.quarantine),
            reports_accepted=tally.accepted,
            reports_rejected=tally.rejected.total(),
            reports_duplicate=tally.duplicate,
            rows_written=figures.rows_written,
            last_flush_at_unix_nano=self._flushes.last_whole_us * 1000,
            last_flush_error=self._flushes.last_error or figures.last_error,
            database_state=figures.database_state.value,
            journal_bytes=self._journal_bytes(),
            connected_streams=self._open_streams(),
            sessions_abandoned=collector.abandoned - tally.abandoned_before,
            # What clients say may be anything, and would end the daemon if it did not fit.
            reports_dropped_by_clients=min(_MOST, sum(client.dropped_reports for client in collector.clients)),
            clients=[
                wire.ClientStatus(
                    client_id=client.client_id,
                    connected=client.here,
                    last_sign_of_life_unix_nano=(now_us if client.here else client.away_wall_us) * 1000,
                    acked_sequence=client.applied_sequence,
                    live_sessions=int(live[client.number]),
                    software=client.software,
                    dropped_reports=client.dropped_reports,
                )
                for client in collector.clients
            ],
            journal_damage=self._journal_damage(),
            database_url=self._database_url(),
        )
