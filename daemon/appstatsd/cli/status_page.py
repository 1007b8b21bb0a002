"""How does a daemon's status look to a person: first whether anything needs them, then the figures, then the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from appstatsd.addresses import Address

if TYPE_CHECKING:
    from appstatsd.wire.appstats.v1.appstats_pb2 import ClientStatus, GetStatusResponse

_SECOND_NS: Final = 1_000_000_000
_OLD_BACKLOG_SECONDS: Final = 300
"""A backlog older than this is not what a few missed flushes leave."""
_CLIENTS_SHOWN: Final = 20


def page(status: GetStatusResponse, address: Address, now_ns: int) -> RenderableType:
    """The page. `now_ns`: nanoseconds since the Unix epoch."""
    needs = _needs(status)
    up = span((now_ns - status.started_at_unix_nano) // _SECOND_NS)
    parts: list[RenderableType] = [Text(f"appstatsd {status.version} at {address}, up {up}", style="bold")]
    parts += [Text(f"! {need}", style="red") for need in needs] or [Text("all is well", style="green")]
    return Group(*parts, Text(""), _figures(status, now_ns), Text(""), *_clients(status, now_ns))


def _needs(status: GetStatusResponse) -> list[str]:
    """What a person should look at."""
    needs = []
    if status.database_state == "down":
        needs.append("the database does not take rows; they are kept in the backlog and tried again")
    if status.last_flush_error:
        needs.append(f"the last flush did not write all its rows: {status.last_flush_error}")
    if status.oldest_backlog_age_seconds > _OLD_BACKLOG_SECONDS:
        needs.append(f"rows have waited for {span(status.oldest_backlog_age_seconds)}")
    if status.quarantined_rows:
        needs.append("the database refused rows for their content; `appstatsd quarantine list` shows them and why")
    if status.journal_damage:
        needs.append(f"damage in the journal: {status.journal_damage}; `appstatsd journal acknowledge` once seen to")
    if status.reports_dropped_by_clients:
        needs.append("clients had no room to keep reports that the daemon did not take in time, and dropped some")
    return needs


def _figures(status: GetStatusResponse, now_ns: int) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    backlog = _count(status.backlog_rows, "row")
    if status.backlog_rows:
        backlog += f", the oldest {span(status.oldest_backlog_age_seconds)} old"
    rows = (
        ("database", f"{status.database_state}  {status.database_url}"),
        ("last flush", _ago(status.last_flush_at_unix_nano, now_ns)),
        ("rows written", f"{status.rows_written:,}"),
        ("backlog", backlog),
        ("quarantine", _count(status.quarantined_rows, "row")),
        ("live sessions", f"{status.live_sessions:,}, {_count(status.sessions_abandoned, 'end')} inferred so far"),
        ("groups", f"{status.groups:,}"),
        (
            "reports",
            f"{status.reports_accepted:,} accepted, {status.reports_rejected:,} rejected, "
            f"{status.reports_duplicate:,} sent again, {status.reports_dropped_by_clients:,} dropped by clients",
        ),
        ("journal", f"{status.journal_bytes:,} bytes" if status.journal_bytes else "none (--durability=memory)"),
    )
    for name, value in rows:
        table.add_row(name, Text(value, style="red" if value.startswith("down") else ""))
    return table


def _clients(status: GetStatusResponse, now_ns: int) -> list[RenderableType]:
    connected = _count(status.connected_streams, "open stream")
    if not status.clients:
        return [Text(f"no clients yet, {connected}", style="dim")]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("client", overflow="fold")
    table.add_column("software")
    for heading in ("last heard of", "live sessions", "acknowledged", "dropped"):
        table.add_column(heading, justify="right")
    shown = sorted(status.clients, key=_by_interest)[:_CLIENTS_SHOWN]
    for client in shown:
        heard = "connected" if client.connected else _ago(client.last_sign_of_life_unix_nano, now_ns)
        figures = (client.live_sessions, client.acked_sequence, client.dropped_reports)
        table.add_row(
            Text(client.client_id), Text(client.software or "-"), heard, *(f"{figure:,}" for figure in figures)
        )
    hidden = len(status.clients) - len(shown)
    rest = [Text(f"and {hidden:,} more (--json shows all)", style="dim")] if hidden else []
    return [Text(f"{_count(len(status.clients), 'client')}, {connected}"), table, *rest]


def _by_interest(client: ClientStatus) -> tuple[bool, int, str]:
    return (not client.connected, -client.last_sign_of_life_unix_nano, client.client_id)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _ago(unix_nano: int, now_ns: int) -> str:
    return f"{span((now_ns - unix_nano) // _SECOND_NS)} ago" if unix_nano else "never"


def span(seconds: int) -> str:
    """A time span in its two largest units."""
    parts: list[str] = []
    rest = max(seconds, 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"
