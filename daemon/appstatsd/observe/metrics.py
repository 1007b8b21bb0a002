"""What does Prometheus see?

Most figures are read from the parts when somebody scrapes, at one moment of the ledger; only the histograms are kept
here. Invariant: a scrape costs the drain one look, and a drain that does not answer fails the scrape, not the daemon.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from appstatsd.activity.notices import Teller
from appstatsd.addresses import TcpAddress
from appstatsd.collect.apps import METHODS
from appstatsd.collect.batch import Reason
from appstatsd.deliver.figures import DatabaseState, Figures
from appstatsd.drain import Question
from appstatsd.errors import AppstatsdError
from appstatsd.ledger import Ledger
from appstatsd.observe.status import StatusPage

SCRAPE_SECONDS: Final = 5.0
"""How long a scrape waits for the drain."""
_ACK_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
_FLUSH_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)

_POOL_GAUGES: Final = ("pool_min", "pool_max", "pool_size", "pool_available", "requests_waiting")
"""What of the pool's figures rises and falls; the others are counts since its start."""


class MetricsRefused(AppstatsdError):
    """Metrics can't be served where they should be."""


class Metrics:
    """The daemon's metrics; served over HTTP from `serve` to `close`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._acks = Histogram(
            "appstatsd_ack_seconds",
            "Time from a message's arrival to its answer, journal included.",
            buckets=_ACK_BUCKETS,
            registry=self._registry,
        )
        self._flushes = Histogram(
            "appstatsd_flush_seconds",
            "Time from the begin of a flush to its last committed row, for flushes that wrote all their rows.",
            buckets=_FLUSH_BUCKETS,
            registry=self._registry,
        )
        self._server: tuple[WSGIServer, Thread] | None = None

    def ack_seconds(self, seconds: float) -> None:
        """A message was answered so long after it came."""
        self._acks.observe(seconds)

    def flush_seconds(self, seconds: float) -> None:
        """A flush wrote all its rows in this time."""
        self._flushes.observe(seconds)

    def serve(self, address: TcpAddress, parts: Parts) -> None:
        """Answer scrapes at this address.

        Raises:
            MetricsRefused: the address can't be listened on.
        """
        self._registry.register(parts)
        try:
            self._server = start_http_server(address.port, address.host, self._registry)
        except OSError as error:
            raise MetricsRefused(
                f"--metrics-listen {address} can't be listened on ({error.strerror}); stop what has it, or choose another"
            ) from error

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()


class Parts(Collector):
    """Reads the figures of all parts, at each scrape."""

    def __init__(
        self,
        put: Callable[[Question], None],
        page: StatusPage,
        deliverer: Callable[[], Figures],
        pool: Callable[[], dict[str, int]],
        removed: Callable[[], int] = lambda: 0,
        skipped: Mapping[Enum, int] | None = None,
        tellers: Sequence[Teller] = (),
    ) -> None:
        """Read from these.

        Args:
            put: Hands a question to the drain.
            page: Puts the status together.
            deliverer: How the way to the database is doing.
            pool: What the pool of connections counts.
            removed: How many rows were removed for their age.
            skipped: By the reason, entries of access logs that told of no session; None: none are taken.
            tellers: Who tells of activity.
        """
        self._put = put
        self._page = page
        self._deliverer = deliverer
        self._pool = pool
        self._removed = removed
        self._skipped = skipped
        self._tellers = tellers

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not scrape at registration to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics but the histograms."""
        answers: queue.SimpleQueue[list[Metric]] = queue.SimpleQueue()
        self._put(Question(lambda ledger: answers.put(self._of_ledger(ledger))))
        try:
            yield from answers.get(timeout=SCRAPE_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"the drain did not answer within {SCRAPE_SECONDS} s") from None
        yield from self._of_deliverer()
        if self._skipped is not None:
            skipped = CounterMetricFamily(
                "appstatsd_access_log_entries_skipped",
                "Entries of access logs that told of no session.",
                labels=["reason"],
            )
            for reason, count in self._skipped.items():
                skipped.add_metric([reason.name.lower()], count)
            yield skipped
        if self._tellers:
            yield from self._of_tellers()

    def _of_ledger(self, ledger: Ledger) -> list[Metric]:
        status, tally, collector = self._page(ledger), ledger.tally, ledger.collector
        rejected = CounterMetricFamily("appstatsd_reports_rejected", "Reports rejected.", labels=["reason"])
        for reason in Reason:
            rejected.add_metric([reason.name.lower()], tally.rejected[reason])
        live = GaugeMetricFamily("appstatsd_live_sessions", "Sessions without an end.", labels=["access_method"])
        for method, count in zip(METHODS[1:], collector.live_by_method()[1:].tolist(), strict=True):
            live.add_metric([method], count)
        here = sum(client.connected for client in status.clients)
        clients = GaugeMetricFamily("appstatsd_clients", "Clients that are remembered.", labels=["state"])
        clients.add_metric(["connected"], here)
        clients.add_metric(["away"], len(status.clients) - here)
        started_ns = status.started_at_unix_nano
        build = InfoMetricFamily("appstatsd_build", "The daemon's version.", {"version": status.version})
        return [
            _counter("reports_accepted", "Reports accepted.", status.reports_accepted),
            rejected,
            _counter("reports_duplicate", "Reports in batches that were sent again.", status.reports_duplicate),
            _counter(
                "reports_dropped_by_clients",
                "Reports that clients say they dropped for lack of room.",
                tally.dropped_by_clients,
            ),
            live,
            _gauge("groups", "Groups held.", status.groups),
            _counter("sessions_abandoned", "Sessions whose end was inferred.", status.sessions_abandoned),
            clients,
            _gauge("connected_streams", "Streams that are open.", status.connected_streams),
            _gauge("backlog_rows", "Rows that wait for the database.", status.backlog_rows),
            _gauge("backlog_oldest_seconds", "Age of the oldest row that waits.", status.oldest_backlog_age_seconds),
            _gauge("quarantined_rows", "Rows that the database refused.", status.quarantined_rows),
            _gauge("journal_bytes", "What the journal and its snapshot take on disk.", status.journal_bytes),
            _gauge(
                "journal_damaged", "1 while a damage of the journal is not acknowledged.", bool(status.journal_damage)
            ),
            build,
            _gauge("start_time_seconds", "When the daemon started, since the Unix epoch.", started_ns / 1_000_000_000),
        ]

    def _of_deliverer(self) -> Iterator[Metric]:
        figures = self._deliverer()
        errors = CounterMetricFamily(
            "appstatsd_database_errors", "Errors of the database by class of SQLSTATE.", labels=["sqlstate_class"]
        )
        for sqlstate_class, count in figures.errors.items():
            errors.add_metric([sqlstate_class], count)
        yield errors
        yield _counter("rows_written", "Rows committed in the database.", figures.rows_written)
        yield _counter(
            "rows_written_late", "Rows committed over an hour after what they tell of ended.", figures.rows_written_late
        )
        yield _counter(
            "rows_removed", "Rows removed from the database since they were older than --retention.", self._removed()
        )
        yield _gauge("database_up", "1 while the database takes rows.", figures.database_state is DatabaseState.UP)
        for name, value in self._pool().items():
            yield _of_pool(name, value)

    def _of_tellers(self) -> Iterator[Metric]:
        told = CounterMetricFamily(
            "appstatsd_activity_notices", "Notices that a workspace was used, that got through.", labels=["way"]
        )
        dropped = CounterMetricFamily(
            "appstatsd_activity_notices_dropped", "Notices that found no room or did not get through.", labels=["way"]
        )
        for teller in self._tellers:
            figures = teller.figures()
            told.add_metric([teller.name], figures.told)
            dropped.add_metric([teller.name], figures.dropped)
        yield from (told, dropped)


def _of_pool(name: str, value: int) -> Metric:
    """A figure of the pool's, which tells times in milliseconds."""
    shown = f"pool_{name.removeprefix('pool_')}"
    text = f"psycopg_pool's {name}."
    if name.endswith("_ms"):
        return _counter(f"{shown.removesuffix('_ms')}_seconds", text, value / 1000)
    return _gauge(shown, text, value) if name in _POOL_GAUGES else _counter(shown, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"appstatsd_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"appstatsd_{name}", text, value=value)
