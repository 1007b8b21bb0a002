"""`appstatsd serve`: run the daemon in the foreground."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from appstatsd.addresses import UnixAddress
from appstatsd.cli import exits
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.errors import AppstatsdError
from appstatsd.loading import kept_for_good
from appstatsd.settings import Settings


@click.command(cls=SettingsCommand)
@with_settings()
def serve(settings: Settings) -> int:
    """Run the daemon in the foreground.

    Prints `ready` with its addresses once it accepts streams. Logs go to standard error. SIGTERM and SIGINT stop it,
    SIGHUP reloads what can change.
    """
    # gRPC's own messages on standard error are no events; what matters of them comes as errors of its calls.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # numpy's linear algebra, of which nothing is used, else starts a thread for each core, and has it spin for a while.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with kept_for_good(), _without_rich(settings):
        import structlog

    from appstatsd.observe.journald import journal
    from appstatsd.observe.logging import configure
    from appstatsd.observe.notify import NotifyMissing

    configure(settings.log_level, settings.log_format, sys.stderr, journal(os.environ))
    log = structlog.get_logger("appstatsd.serve")
    for warning in settings.warnings:
        log.warning("Unwise setting", warning=warning)
    try:
        _make_default_folder(settings)
        _have_all_files()
        with kept_for_good():
            from appstatsd.daemon import run

        return exits.at_once(run(settings))
    except NotifyMissing as error:
        log.critical("The daemon cannot go on", error=str(error))
        return exits.WRONG  # no start will be better before something is installed
    except AppstatsdError as error:
        log.critical("The daemon cannot go on", error=str(error))
    except Exception:  # The main thread's outermost frame, and the only one that has the log.
        log.critical("The daemon ends on an error that nobody foresaw; please report it", exc_info=True)
    return exits.FAILED


def _have_all_files() -> None:
    """Let the process have as many files as it may: each connection is one, and the usual 1024 are for `select` alone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _without_rich(settings: Settings) -> Iterator[None]:
    """structlog loads rich wherever it is installed, 9 MiB that a daemon whose logs nobody reads by eye has no use for."""
    hidden = settings.log_format != "console" and "rich" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]  # what an import then takes for missing
    try:
        yield
    finally:
        if hidden:
            del sys.modules["rich"]


def _make_default_folder(settings: Settings) -> None:
    """Make the folder that the socket is in by default; one that somebody chose is theirs to make.

    Everybody may look into it: who may connect is said by the socket's own mode and group.
    """
    if settings.sources["listen"].where != "default":
        return
    for address in settings.listen:
        if isinstance(address, UnixAddress):
            try:
                address.path.parent.mkdir(0o755, parents=True, exist_ok=True)
            except OSError as error:
                text = f"the folder for the socket, {address.path.parent}, cannot be made: {error.strerror}"
                raise exits.Failed(f"{text}; choose another --listen") from None
