"""`appstatsd status`: how is the daemon doing?"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import click

from appstatsd.cli import exits
from appstatsd.cli.client import Daemon, Refused, connect
from appstatsd.cli.options import REACHING_A_DAEMON, SettingsCommand, with_settings
from appstatsd.settings import Settings

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from appstatsd.wire.appstats.v1.appstats_pb2 import GetStatusResponse

_WATCH_SECONDS: Final = 1.0
_PIPE_COLUMNS: Final = 160
"""How wide the page is where there is no terminal to ask."""


@click.command(cls=SettingsCommand)
@click.option("--watch", is_flag=True, help="Stay, and show what changes, until interrupted.")
@click.option(
    "--json", "as_json", is_flag=True, help="All figures as one JSON object; times in ns since the Unix epoch."
)
@with_settings(REACHING_A_DAEMON)
def status(settings: Settings, watch: bool, as_json: bool) -> int:
    """Show how the daemon is doing and what it holds."""
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs; give one of them")
    if watch:
        return _watch(settings)
    with connect(settings) as daemon:
        answer = _get(daemon)
    if as_json:
        click.echo(json.dumps(_plain(answer), indent=2))
        return exits.OK
    from rich.console import Console

    from appstatsd.cli.status_page import page

    Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(page(answer, daemon.address, time.time_ns()))
    return exits.OK


def _watch(settings: Settings) -> int:
    """Show the page anew until interrupted, also while the daemon is away."""
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

    from appstatsd.cli.status_page import page

    def shown() -> RenderableType:
        try:
            with connect(settings) as daemon:
                return page(_get(daemon), daemon.address, time.time_ns())
        except exits.Failed as failed:
            return Text(str(failed), style="red")

    never = threading.Event()
    try:
        with Live(shown(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
            while not never.wait(_WATCH_SECONDS):
                live.update(shown(), refresh=True)
    except KeyboardInterrupt:
        pass
    return exits.OK


def _get(daemon: Daemon) -> GetStatusResponse:
    from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

    try:
        return daemon.call("SessionReportService/GetStatus", wire.GetStatusRequest(), wire.GetStatusResponse)
    except Refused as refused:
        raise exits.Failed(f"the daemon at {daemon.address} gives no status: {refused}") from None


def _plain(message: Message) -> dict[str, Any]:
    """All fields by their names, numbers as numbers (JSON's usual form of a protobuf has text for 64-bit ones)."""
    return {
        field.name: [_plain(part) for part in getattr(message, field.name)]
        if field.message_type
        else getattr(message, field.name)
        for field in message.DESCRIPTOR.fields
    }
