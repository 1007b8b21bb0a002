"""Over a connection that breaks again and again every session arrives once, and nothing of it stays in the client.

`make soak` does the same with 1,000,000 sessions and 100 reconnects.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.command import missing
from tests.conformance.scenario import Language, languages
from tests.conformance.soak import ASYNCIO, soak

CUTS = 4


@pytest.mark.parametrize("language", [*languages(), ASYNCIO], ids=lambda language: language.name)
def test_sessions_over_a_broken_connection_arrive_once_and_leave_nothing(
    language: Language, tmp_path: Path, postgres_url: str
) -> None:
    if lacking := missing(language):
        pytest.skip(f"needs {', '.join(lacking)}")
    soaked = soak(language, tmp_path, postgres_url, rounds=14, pairs=500, cuts=CUTS)
    assert soaked.reconnects >= CUTS
    assert not soaked.leaks()
