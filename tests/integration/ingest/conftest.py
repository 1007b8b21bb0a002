"""Fixtures: the gRPC side of the daemon in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from appstatsd.accesslog.naming import Naming
from appstatsd.collect.rules import Rules

from tests.support.served import Served


@pytest.fixture
def serve(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def serve(rules: Rules | None = None, max_streams: int = 100, naming: Naming | None = None) -> Served:
        made.append(Served(tmp_path / f"{len(made)}.sock", rules or Rules(), max_streams, naming))
        return made[-1]

    yield serve
    for served in made:
        served.close()
    assert [served.failures for served in made] == [[]] * len(made)
    # gRPC logs what a handler raises; whatever a client does, it is to raise nothing but the end of its stream.
    logged = [record for when in ("setup", "call", "teardown") for record in caplog.get_records(when)]
    assert [record.getMessage() for record in logged if record.levelno >= logging.ERROR] == []


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()
