"""`appstatsd journal`: what is on disk, is it whole, and who knows that it is not?"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from appstatsd.cli import exits
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import Settings

if TYPE_CHECKING:
    from appstatsd.journal.files import DiskFiles
    from appstatsd.journal.offline import Summary

_READING: Final = ("state-dir",)


@click.group()
def journal() -> None:
    """Look into the journal of a state directory.

    The daemon may run or not. Nothing is changed but by `acknowledge`.
    """


@journal.command(cls=SettingsCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@with_settings(_READING)
def check(settings: Settings, as_json: bool) -> int:
    """Read all of it, and say whether it is whole.

    Exit status 1 where something that was acknowledged cannot be read. A torn end is none of that: it is what was being
    written when the daemon went down, or is being written while one runs.
    """
    from appstatsd.journal import offline

    summary = offline.check(_files(settings))
    click.echo(json.dumps(_plain(summary)) if as_json else _text(summary))
    return exits.FAILED if summary.damages else exits.OK


@journal.command(cls=SettingsCommand)
@with_settings(_READING)
def export(settings: Settings) -> int:
    """Print what is in it as JSON, a line for each unit.

    A unit is what one fsync made safe. Its records are events: what came from clients, when streams came and went, when
    it was flushed, what the database took. Times are µs, ids are hexadecimal.
    """
    from appstatsd.events import Received
    from appstatsd.journal import offline
    from appstatsd.records import decode_record

    def decode(record: memoryview) -> dict[str, Any]:
        event = decode_record(record)
        plain = {"event": type(event).__name__, **_plain(event)}
        if isinstance(event, Received):
            plain["message"] = _message(event.message)
        return plain

    for line in offline.export(_files(settings), decode):
        click.echo(line)
    return exits.OK


@journal.command(cls=SettingsCommand)
@with_settings(_READING)
def acknowledge(settings: Settings) -> int:
    """Say that damage which the daemon reports is known.

    The log, the metric and the status stop to speak of it. Files that were set aside stay; remove them by hand.
    """
    from appstatsd.journal import damage

    try:
        known = damage.acknowledge(_files(settings))
    except OSError as error:
        raise exits.Failed(f"the state directory {settings.state_dir} cannot be used: {error}") from None
    for found in known:
        click.echo(f"acknowledged: {found} (set aside as {found.set_aside_as})")
    if not known:
        click.echo("there is no damage to acknowledge")
    return exits.OK


def _files(settings: Settings) -> DiskFiles:
    from appstatsd.journal.files import DiskFiles

    return DiskFiles(settings.state_dir)


def _text(summary: Summary) -> str:
    if summary.snapshot_bytes is None:
        begin = "no snapshot"
    else:
        begin = f"a snapshot of {summary.snapshot_bytes:,} bytes, the state before unit {summary.first_unit}"
    lines = [
        begin,
        f"{summary.units:,} units with {summary.records:,} records, {summary.record_bytes:,} bytes",
        *(f"damaged: {damage}" for damage in summary.damages),
        *(f"not acknowledged yet: {damage}" for damage in summary.noted),
    ]
    if summary.torn:
        lines.append(f"torn, or being written: {summary.torn}")
    return "\n".join([*lines, "damaged" if summary.damages else "whole"])


def _message(serialized: bytes) -> Any:
    """A client's message, which may be anything."""
    from google.protobuf.message import DecodeError

    from appstatsd.wire.appstats.v1.appstats_pb2 import StreamReportsRequest

    try:
        return _plain(StreamReportsRequest.FromString(serialized))
    except DecodeError:
        return {"not a StreamReportsRequest": serialized.hex()}


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    import numpy as np
    from google.protobuf.message import Message

    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Message):
        return {field.name: _plain(part) for field, part in value.ListFields()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str | int | None):
        return value
    return [_plain(part) for part in value]
