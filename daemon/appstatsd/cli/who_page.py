"""How does the answer to `who` look to a person: first whether anything is in use, then what, then what was."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from appstatsd.cli.status_page import span

if TYPE_CHECKING:
    from appstatsd.store.usage import Session, Who

_SILENT_INTERVALS: Final = 3
"""A live session that was not written for so many report intervals may be an orphan."""


def page(answer: Who, workspace: str | None, user: str | None, interval_seconds: float) -> RenderableType:
    """The page. `interval_seconds`: how often live sessions are written."""
    asked = " and ".join(f"{what} {name}" for what, name in (("workspace", workspace), ("user", user)) if name)
    unasked = [what for what, name in (("workspace", workspace), ("user", user)) if name is None]
    parts: list[RenderableType] = [Text(asked, style="bold"), _sentence(answer)]
    if answer.last_used_at is not None:
        parts.append(Text(f"workspaces.last_used_at is {_ago(answer.last_used_at, answer.now)}", style="dim"))
    if answer.live:
        silent = timedelta(seconds=_SILENT_INTERVALS * interval_seconds)
        parts += [Text(""), _live(answer, silent, unasked)]
    if answer.lately:
        parts += [Text(""), Text("before", style="dim"), _lately(answer, unasked)]
    return Group(*parts)


def _sentence(answer: Who) -> Text:
    if answer.live:
        sessions = f"{len(answer.live):,} live session{'' if len(answer.live) == 1 else 's'}"
        return Text(f"in use: {sessions}, the first since {_ago(answer.live[0].started_at, answer.now)}", style="green")
    if answer.lately:
        return Text(f"not in use; last {_ago(answer.lately[0].last_seen_at, answer.now)}")
    return Text("not in use, and never was as far as the table goes back")


def _live(answer: Who, silent: timedelta, unasked: list[str]) -> Table:
    table = _table(unasked, "since", "last seen")
    for session in answer.live:
        seen = _ago(session.last_seen_at, answer.now)
        orphan = answer.now - session.last_seen_at > silent
        shown = Text(f"{seen}: an orphan?", style="red") if orphan else Text(seen)
        table.add_row(*_what(session, unasked), _ago(session.started_at, answer.now), shown)
    return table


def _lately(answer: Who, unasked: list[str]) -> Table:
    table = _table(unasked, "lasted", "ended")
    for session in answer.lately:
        lasted = span(int((session.last_seen_at - session.started_at).total_seconds()))
        table.add_row(*_what(session, unasked), lasted, _ago(session.last_seen_at, answer.now))
    return table


def _table(unasked: list[str], *times: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in (*unasked, "agent"):
        table.add_column(heading, no_wrap=True)
    for heading in ("app", "method"):
        table.add_column(heading, overflow="fold")
    table.add_column("requests", justify="right")
    for heading in times:
        table.add_column(heading)
    return table


def _what(session: Session, unasked: list[str]) -> list[Text | str]:
    """What the session is of, but for what was asked for."""
    names = {"workspace": session.workspace_id, "user": session.user_id}
    app = Text(session.slug_or_port or "-")  # as Text, since a slug may hold what rich takes for markup
    return [*(names[what] for what in unasked), session.agent_id, app, session.access_method, f"{session.requests:,}"]


def _ago(moment: datetime, now: datetime) -> str:
    """The moment, and how long ago that was."""
    shown = f"{moment:%H:%M:%S}Z" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M}Z"
    return f"{shown}, {span(int((now - moment).total_seconds()))} ago"
