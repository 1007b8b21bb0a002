"""Which parts make the daemon, and in which order do they start and stop?

The map: the only module that knows all of them. A report comes in at `ingest`, waits for the `drain`, changes the
`ledger`; its row waits in the ledger's outbox until the `deliverer` has taken it to the `store`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import structlog
import xxhash

from appstatsd.activity.notices import ToldReporter
from appstatsd.activity.ways import tellers
from appstatsd.clock import Clock, SystemClock
from appstatsd.collect.rollup import Flushed as RolledUp
from appstatsd.deliver.deliverer import Deliverer
from appstatsd.deliver.figures import DatabaseState
from appstatsd.deliver.retention import Retention
from appstatsd.deliver.watch import DatabaseWatch
from appstatsd.drain import Drain, EventLog, Forgetful
from appstatsd.durable import recover_ledger
from appstatsd.errors import AppstatsdError
from appstatsd.events import Quarantined, Started, Written
from appstatsd.flushes import Flushes
from appstatsd.ingest.admin import Admin
from appstatsd.ingest.certificates import Certificates
from appstatsd.ingest.erasure import Erasure
from appstatsd.ingest.reports import ReportStreams
from appstatsd.ingest.servers import Servers
from appstatsd.journal.damage import OnDamage
from appstatsd.journal.files import DiskFiles, own
from appstatsd.ledger import Ledger
from appstatsd.observe.logging import set_level
from appstatsd.observe.notify import ServiceManager, service_manager
from appstatsd.observe.status import StatusPage
from appstatsd.settings import Settings, SettingsError
from appstatsd.store.embedded import EmbeddedPostgres
from appstatsd.store.own_database import OwnDatabase, Store
from appstatsd.store.removal import OldRows
from appstatsd.store.schema import LastUsedAt
from appstatsd.store.writer import PostgresReporter

if TYPE_CHECKING:
    from appstatsd.ingest.access_logs import AccessLogs
    from appstatsd.observe.metrics import Metrics

STOP_SECONDS = 15.0
"""How long a clean stop may take for its flushes and for ending the streams."""
STREAMS_END_SECONDS = 3.0
"""How much of that clients may take to see their streams end."""


class DaemonFailed(AppstatsdError):
    """The daemon had to end; the log says why."""


def run(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT; the exit status.

    Raises:
        AppstatsdError: it can't start, or can't go on; the text says why and what to do.
    """
    clock = SystemClock()
    return asyncio.run(_run(settings, clock, service_manager(os.environ, clock)))


async def _run(settings: Settings, clock: Clock, manager: ServiceManager) -> int:
    files = DiskFiles(settings.state_dir)
    if settings.durability == "memory":
        own(files)
        try:
            return await Daemon(settings, clock, manager, Ledger(settings.rules()), Forgetful()).run()
        finally:
            files.close()
    ledger, log = recover_ledger(
        files,
        settings.rules(),
        clock,
        on_damage=OnDamage(settings.on_damage),
        max_bytes=settings.max_state_bytes,
        progress=manager.recovering,
    )
    try:
        return await Daemon(settings, clock, manager, ledger, log).run()
    finally:
        log.close()


class Daemon:
    """All parts of one daemon, from its start to its stop."""

    def __init__(
        self, settings: Settings, clock: Clock, manager: ServiceManager, ledger: Ledger, log: EventLog
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._manager = manager
        self._log = structlog.get_logger("appstatsd")
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._drain_runs = False
        self._servers: Servers | None = None
        self._certificates = None if settings.tls is None else Certificates(settings.tls)
        self._logs = _access_logs(settings, clock)
        self._store = _store(settings)
        self._tellers = tellers(settings, lambda: self._store.shown_url)
        self._ledger = ledger
        self._event_log = log
        self._deliverer = Deliverer(
            self._ledger.outbox,
            ToldReporter(self._store, self._tellers),
            batch_size=settings.batch_size,
            lanes=max(1, settings.pool_max_size // 2),  # the others are for whoever asks or removes meanwhile
            busy=lambda: self._drain.busy(),
            on_written=lambda serials, stamp: self._drain.put(Written(serials, stamp, clock.wall_us())),
            on_quarantined=lambda serial, stamp, refused: self._drain.put(
                Quarantined(serial, stamp, refused.message, refused.sqlstate, clock.wall_us())
            ),
            wall_us=clock.wall_us,
            on_state=self._database_is,
        )
        self._watch = DatabaseWatch(
            self._store.probe, self._deliverer.idle, self._deliverer.probed, settings.report_interval_seconds
        )
        self._retention = Retention(
            OldRows(self._store.connection, settings.retention_us), settings.retention_us, self._deliverer.idle
        )
        self._metrics = _metrics(settings)
        self._flushes = Flushes(
            self._deliverer,
            clock,
            settings.flush_timeout_us,
            _unwatched if self._metrics is None else self._metrics.flush_seconds,
        )
        self._drain = Drain(
            self._ledger,
            log,
            clock,
            first_flush_us=None if settings.enable_test_clock else _phase_us(settings),
            flush_interval_us=settings.report_interval_us,
            timer_flush=lambda: self._flushes.call(None, urgent=False),
            answer=lambda answers: self._streams.answer(answers),
            rolled_up=self._rolled_up,
            outbox_changed=self._deliverer.kick,
            acknowledged=_unwatched if self._metrics is None else self._metrics.ack_seconds,
            refuse=self._refuse,
            give_way=self._give_way,
            failed=self._failed,
        )

    async def run(self) -> int:
        """Start, serve, and stop; the exit status."""
        self._loop = asyncio.get_running_loop()
        self._streams = ReportStreams(
            self._drain.put, self._clock, first_stream=self._ledger.next_stream, max_streams=self._settings.max_streams
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        alive = self._loop.create_task(self._manager.stay_alive(self._drain.put, self._figures))
        try:
            # First of all events: since when clients are away is told by the last one before it.
            self._drain.put(Started(self._settings.rules(), self._clock.wall_us(), self._clock.mono_us()))
            self._start_writing()
            await self._start_serving()
            self._manager.ready()
            await self._stopping.wait()
        finally:
            self._manager.stopping()
            await self._stop()
            alive.cancel()
        if self._failure is not None:
            raise DaemonFailed(f"the daemon ends, since it can't go on: {self._failure}") from self._failure
        return 0

    def _start_writing(self) -> None:
        self._store.open()
        for teller in self._tellers:
            teller.start()
        self._watch.start()  # which starts an embedded server too; nothing else waits for it
        self._deliverer.start()
        if self._settings.retention_us:
            self._retention.start()
        self._drain.start()
        self._drain_runs = True

    async def _start_serving(self) -> None:
        settings = self._settings
        page = StatusPage(
            self._deliverer,
            self._flushes,
            self._clock,
            open_streams=lambda: self._streams.open,
            database_url=lambda: self._store.shown_url,
            journal_bytes=lambda: self._event_log.bytes_on_disk,
            journal_damage=self._event_log.damage,
        )
        self._admin = Admin(self._drain, self._flushes, self._clock, page, test_clock=settings.enable_test_clock)
        if self._metrics is not None and settings.metrics_listen is not None:
            from appstatsd.observe.metrics import Parts  # as in _metrics

            skipped = None if self._logs is None else self._logs.skipped
            parts = Parts(
                *(self._drain.put, page, self._deliverer.figures, self._store.figures),
                removed=lambda: self._retention.removed,
                skipped=skipped,
                tellers=self._tellers,
            )
            self._metrics.serve(settings.metrics_listen, parts)
        self._servers = Servers(
            settings,
            self._certificates,
            streams=grpc.stream_stream_rpc_method_handler(self._streams.handle),
            access_logs=[] if self._logs is None else [self._logs.service(self._streams.serve)],
            admin=self._admin,
            erasure=Erasure(self._drain, self._deliverer, self._event_log, self._store.connection).service(),
        )
        database_is_up = self._deliverer.figures().database_state is DatabaseState.UP
        addresses = await self._servers.start(database_is_up=database_is_up)
        shown = " ".join(str(address) for address in addresses)
        print(f"ready {shown}", flush=True)  # noqa: T201 -- whoever started the daemon waits for it
        self._log.info("Ready", addresses=shown, state_dir=str(settings.state_dir), durability=settings.durability)

    async def _stop(self) -> None:
        """Flush while still serving, end the streams, flush what came in meanwhile, then take the sockets away."""
        deadline_s = self._clock.mono_us() / 1_000_000 + STOP_SECONDS
        if self._servers is not None and self._failure is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._last_flush()
                    self._streams.refuse("the daemon stops; it will be back", retry_delay_ms=1000)
                    await self._streams.closed(STREAMS_END_SECONDS)
                    await self._last_flush()
        # In a thread, so that who comes meanwhile is told to come back.
        await asyncio.to_thread(self._stop_writing, deadline_s)
        # The sockets go last: the time without them is what proxies notice of a restart.
        if self._servers is not None:
            await self._servers.stop()
        if self._drain_runs:
            self._drain.stop()
        self._log.info("Stopped", backlog_rows=len(self._ledger.outbox))

    def _stop_writing(self, deadline_s: float) -> None:
        if self._metrics is not None:
            self._metrics.close()
        if self._drain_runs:
            self._deliverer.stop(max(deadline_s, self._clock.mono_us() / 1_000_000 + 1))
        for teller in self._tellers:
            teller.stop(timeout_seconds=1)
        self._watch.stop(timeout_seconds=1)
        self._retention.stop(timeout_seconds=1)
        self._store.close()

    async def _last_flush(self) -> None:
        # Under a test clock no time passes but what the test says.
        as_of_us = self._ledger.collector.last_now_us or None if self._settings.enable_test_clock else None
        outcome = await self._admin.flush_now(as_of_us)
        if outcome.error is not None:
            self._log.warning(
                "The last rows could not be written", backlog_rows=outcome.backlog_rows, error=str(outcome.error)
            )

    def _signalled(self) -> None:
        if self._stopping.is_set():
            self._log.warning("Stopping at once, as asked for a second time")
            logging.shutdown()
            os._exit(1)
        self._stopping.set()

    def _reload(self) -> None:
        """Put in force what can change while the daemon runs, and name what needs a restart."""
        with self._manager.reloading():
            self._read_settings_again()

    def _read_settings_again(self) -> None:
        try:
            new = self._settings.read_again()
        except SettingsError as error:
            self._log.error("The settings are not reloaded; those in force stay", error=str(error))
            return
        if self._certificates is not None:
            self._certificates.look()
        changed = self._settings.changed(new)
        set_level(new.log_level)
        self._log.info(
            "Reloaded",
            in_force=[row.name for row in changed if row.reloads],
            needs_restart=[row.name for row in changed if not row.reloads],
        )
        # What needs a restart is named again at the next reload, until there is one.
        self._settings = replace(self._settings, log_level=new.log_level)

    def _failed(self, failure: BaseException) -> None:
        self._failure = failure
        self._loop.call_soon_threadsafe(self._stopping.set)

    def _database_is(self, state: DatabaseState) -> None:
        if self._servers is not None:
            self._servers.database_is(state is DatabaseState.UP)

    def _figures(self, ledger: Ledger) -> str:
        """How it is doing, in a line."""
        return (
            f"{self._streams.open} streams, {ledger.collector.sessions} sessions, {len(ledger.outbox)} rows wait, "
            f"{len(ledger.quarantine)} in quarantine, database {self._deliverer.figures().database_state.value}"
        )

    def _refuse(self, refuse: bool) -> None:
        if refuse:
            why = "the daemon's state directory is full; try again later"
            self._loop.call_soon_threadsafe(self._streams.refuse, why, 5000)
        else:
            self._loop.call_soon_threadsafe(self._streams.take_again)

    def _give_way(self, seconds: float, go_on: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, go_on)
        except RuntimeError:  # the loop has ended
            go_on()

    def _rolled_up(self, rolled_up: RolledUp) -> None:
        self._streams.settle_log()
        if self._logs is not None:
            self._logs.settle_log()
        if rolled_up.stepped_back_us:
            self._log.warning(
                "The clock stepped back by more than --max-clock-skew, and is followed",
                seconds=rolled_up.stepped_back_us / 1_000_000,
            )


def _store(settings: Settings) -> Store:
    def connect(url: str) -> Store:
        return PostgresReporter(
            url,
            pool_min_size=settings.pool_min_size,
            pool_max_size=settings.pool_max_size,
            flush_timeout_seconds=settings.flush_timeout_seconds,
            max_clock_skew_us=settings.max_clock_skew_us,
            last_used_at=LastUsedAt(settings.last_used_at),
        )

    if settings.database_url is not None:
        return connect(settings.database_url.text)
    return OwnDatabase(EmbeddedPostgres(settings.state_dir), connect)


# What follows has libraries of its own that take their time and their memory to load; they are for who has asked for it.


def _access_logs(settings: Settings, clock: Clock) -> AccessLogs | None:
    if settings.naming is None:
        return None
    from appstatsd.ingest.access_logs import AccessLogs

    return AccessLogs(settings.naming, clock)


def _metrics(settings: Settings) -> Metrics | None:
    if settings.metrics_listen is None:
        return None
    from appstatsd.observe.metrics import Metrics

    return Metrics()


def _unwatched(_seconds: float) -> None:
    """What would be a metric, where there are none."""


def _phase_us(settings: Settings) -> int:
    """How long after the start the first flush comes: another part of the interval for each daemon of a fleet."""
    name = f"{socket.gethostname()}\0{settings.state_dir}".encode()
    return xxhash.xxh3_64_intdigest(name) * settings.report_interval_us >> 64
