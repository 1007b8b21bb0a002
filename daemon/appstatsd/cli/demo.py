"""`appstatsd demo`: see traffic become rows, on one machine, in half a minute.

Nothing is made up: a daemon with its embedded PostgreSQL, a proxy and an app behind it run as processes of their own in
a folder that goes with them, and real HTTP and WebSocket traffic goes through the proxy. That is a stock Envoy where its
wheel is installed, else the example in Python.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from appstatsd.cli import demo_envoy, exits
from appstatsd.cli.exits import Failed

if TYPE_CHECKING:
    from rich.console import Console

_EXAMPLES: Final = Path(__file__).parents[3] / "clients" / "python" / "examples"
_ENVOY: Final = _EXAMPLES / "envoy"
_CLIENT: Final = _EXAMPLES.parent
_STOP_SECONDS: Final = 30
_SHOWN_ROWS: Final = 40
_ROWS: Final = """
SELECT left(user_id::text, 6), left(workspace_id::text, 6), access_method, slug_or_port,
       to_char(session_started_at, 'HH24:MI:SS'), to_char(session_ended_at, 'HH24:MI:SS'), requests, sessions, end_source
FROM workspace_app_stats ORDER BY session_started_at, user_id, workspace_id, access_method, slug_or_port
"""


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="How long traffic runs.")
@click.option(
    "--envoy/--no-envoy",
    default=None,
    help="Whether the proxy is Envoy or the example in Python. Default: Envoy where it is installed.",
)
def demo(seconds: float, envoy: bool | None) -> int:
    """Run a daemon, a database, a proxy, an app and traffic, and show the rows.

    Needs a checkout of the project, with `make setup` done; `make demo` does both.
    """
    if not _EXAMPLES.is_dir():
        raise Failed("the demo needs the example proxy, which is not installed: clone the project and run `make demo`")
    from rich.console import Console

    with_envoy = demo_envoy.BINARY.exists() if envoy is None else envoy
    console = Console()
    with tempfile.TemporaryDirectory(prefix="appstatsd-demo-") as folder, contextlib.ExitStack() as running:
        socket = f"unix:{folder}/appstatsd.sock"
        console.print("[bold]1[/] the daemon, with a PostgreSQL of its own")
        # Shorter than anybody should set them, so that half a minute shows what else takes minutes.
        timing = ("--rollup-window=10s", "--report-interval=2s", "--log-level=error")
        serve = (
            sys.executable,
            "-m",
            "appstatsd",
            "serve",
            f"--listen={socket}",
            f"--state-dir={folder}/state",
            *timing,
            *((f"--config={_ENVOY / 'appstatsd.toml'}",) if with_envoy else ()),
        )
        running.enter_context(_process(*serve, announces="ready"))
        what = (
            "a stock Envoy in front of it that tells its access log" if with_envoy else "a proxy in front that reports"
        )
        console.print(f"[bold]2[/] an app, and {what}")
        upstream = running.enter_context(_example("upstream", "--listen=127.0.0.1:0"))
        if with_envoy:
            path = Path(folder)
            proxy = running.enter_context(
                demo_envoy.envoy(_ENVOY / "envoy.yaml", path, upstream, path / "appstatsd.sock")
            )
        else:
            proxy = running.enter_context(
                _example("reverse_proxy", "--listen=127.0.0.1:0", f"--upstream={upstream}", f"--appstatsd={socket}")
            )
        console.print(f"[bold]3[/] users browse and open WebSockets through {proxy} for {seconds:g} s")
        done = _drive(console, proxy, seconds)
        console.print(f"  they did: {done}", soft_wrap=True)
        console.print("[bold]4[/] what stands in workspace_app_stats")
        _wait_until_told(socket)
        _ask("flush", socket)
        _show_rows(console, _database_url(socket))
        console.print("[bold]5[/] what the daemon says of itself: appstatsd status")
        click.echo(_ask("status", socket))
        console.print("[bold]6[/] who was there, and for how long: appstatsd usage")
        click.echo(_ask("usage", socket, "--since=1h"))
    return exits.OK


def _drive(console: Console, proxy: str, seconds: float) -> str:
    traffic = subprocess.Popen(
        [sys.executable, str(_EXAMPLES / "traffic.py"), f"--proxy={proxy}", f"--seconds={seconds}"],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    with Progress("  traffic", BarColumn(), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("traffic", total=seconds)
        while True:
            try:
                done, _ = traffic.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                progress.advance(task, 0.5)
            else:
                progress.update(task, completed=seconds)
                break
    if traffic.returncode:
        raise Failed(f"the traffic ended with exit status {traffic.returncode}; what it said stands above")
    return done.strip()


def _show_rows(console: Console, url: str) -> None:
    import psycopg
    from rich.table import Table

    with psycopg.connect(url) as connection:
        rows = connection.execute(_ROWS).fetchall()
    table = Table(box=None, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in ("user", "space", "method", "app", "started", "ended", "requests", "sessions", "end"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("requests", "sessions") else "left")
    for row in rows[:_SHOWN_ROWS]:
        table.add_row(*map(str, row))
    console.print(table)
    if len(rows) > _SHOWN_ROWS:
        console.print(f"and {len(rows) - _SHOWN_ROWS} more")


def _wait_until_told(socket: str) -> None:
    """Until nothing more comes: Envoy tells its log a little later."""
    before, now = None, _status(socket)
    while now["live_sessions"] or now["reports_accepted"] != before:
        before, now = now["reports_accepted"], _status(socket)


def _database_url(socket: str) -> str:
    return str(_status(socket)["database_url"])


def _status(socket: str) -> dict[str, Any]:
    import json

    status: dict[str, Any] = json.loads(_ask("status", socket, "--json"))
    return status


def _ask(command: str, socket: str, *flags: str) -> str:
    asked = subprocess.run(
        [sys.executable, "-m", "appstatsd", command, f"--listen={socket}", *flags],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    if asked.returncode:
        raise Failed(f"`appstatsd {command}` failed in the demo: {asked.stderr.strip()}")
    return asked.stdout


def _example(name: str, *flags: str) -> contextlib.AbstractContextManager[str]:
    return _process(sys.executable, str(_EXAMPLES / f"{name}.py"), *flags, announces="Running on")


@contextlib.contextmanager
def _process(*command: str, announces: str) -> Iterator[str]:
    """A process that runs until the end; the URL or address that it announced."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if announces in line), None)
        if line is None:
            raise Failed(f"{Path(command[1]).name} {command[2]} did not start; what it said stands above")
        yield next((word for word in line.split() if "://" in word), line.split()[-1])
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(_CLIENT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "NONE"}
