"""The lines that the README shows do what it says."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any
from uuid import UUID

from scripted_daemon import ScriptedDaemon

README = Path(__file__).parent.parent / "README.md"
PLACE = "unix:/run/appstatsd/appstatsd.sock"


def test_the_lines_of_the_readme_work(daemon: ScriptedDaemon) -> None:
    blocking, awaiting = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert PLACE in blocking
    assert PLACE in awaiting
    names: dict[str, Any] = {}
    exec(blocking.replace(PLACE, daemon.target), names)
    [held] = daemon.model.sessions.values()
    assert (held.app[0], held.requests) == (UUID(int=1).bytes, 2)
    assert held.ended_ns
    exec("from appstatsd_client import AsyncClient", names)
    exec(f"async def main():\n{textwrap.indent(awaiting.replace(PLACE, daemon.target), '    ')}", names)
    asyncio.run(names["main"]())
    assert len(daemon.model.sessions) == 2
    assert all(held.ended_ns for held in daemon.model.sessions.values())
    assert len(daemon.model.closed) == 2
