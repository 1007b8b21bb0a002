"""How does use look to a person: a line for each user, workspace, app or access method, with a bar for its time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from appstatsd.cli.status_page import span

if TYPE_CHECKING:
    from appstatsd.store.usage import Used

_BAR_COLUMNS: Final = 30


def page(found: Sequence[Used], by: str, since: datetime, until: datetime, limit: int) -> RenderableType:
    """The page: the `limit` most used."""
    heading = Text(f"use by {by}, {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M %Z}", style="bold")
    if not found:
        return Group(heading, Text("nothing was used"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(by, overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", width=_BAR_COLUMNS)
    headings = ("opened", "requests") if by == "user" else ("users", "opened", "requests")
    for name in headings:
        table.add_column(name, justify="right")
    table.add_column("last use", no_wrap=True)
    for used in found[:limit]:
        users = [] if by == "user" else [f"{used.users:,}"]
        table.add_row(
            Text(used.key),
            span(round(used.seconds)),
            Bar(max(found[0].seconds, 1), 0, used.seconds, width=_BAR_COLUMNS, color="cyan"),
            *(*users, f"{used.sessions:,}", f"{used.requests:,}", f"{used.last_used_at:%Y-%m-%d %H:%M}"),
        )
    hidden = len(found) - limit
    rest = [Text(f"and {hidden:,} more (--limit, --json and --csv show them)", style="dim")] if hidden > 0 else []
    return Group(heading, table, *rest)
