"""Every client ends every scenario with the rows that the scenario says, exactly once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.command import build, missing
from tests.conformance.scenario import Language, Scenario, languages, scenarios
from tests.conformance.world import World
from tests.support.postgres import PostgresServer

# The first test of a language builds its command, on a fresh clone from nothing.
pytestmark = pytest.mark.timeout(900)

LANGUAGES = languages()
APART = [scenario for scenario in scenarios() if not scenario.together]
TOGETHER = [scenario for scenario in scenarios() if scenario.together]


def run(scenario: Scenario, language: Language, folder: Path, server: PostgresServer) -> str:
    """Returns what was measured."""
    database = server.create_database()
    try:
        folder.mkdir(exist_ok=True)
        world = World(scenario, language, folder, server.url(database))
        try:
            world.run()
        finally:
            world.end()
        return " ".join(world.figures)
    finally:
        server.drop_database(database)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
@pytest.mark.parametrize("scenario", APART, ids=lambda scenario: scenario.name)
def test_the_rows_are_those_of_the_scenario(
    scenario: Scenario,
    language: Language,
    tmp_path: Path,
    shared_postgres: PostgresServer,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("conformance", [scenario.title, language.name, ""])
    if lacking := missing(language):
        pytest.skip(f"needs {', '.join(lacking)}")
    build(language)
    run(scenario, language, tmp_path, shared_postgres)


@pytest.mark.parametrize("scenario", TOGETHER, ids=lambda scenario: scenario.name)
def test_the_rows_are_those_of_the_scenario_for_all_languages_at_once(
    scenario: Scenario,
    tmp_path: Path,
    shared_postgres: PostgresServer,
    record_property: Callable[[str, object], None],
) -> None:
    present = [language for language in LANGUAGES if not missing(language)]
    for language in present:
        build(language)
    with ThreadPoolExecutor(len(present), "language") as pool:
        runs = {
            language.name: pool.submit(run, scenario, language, tmp_path / language.name, shared_postgres)
            for language in present
        }
    failures = []
    for name, result in runs.items():
        error = result.exception()
        record_property("conformance", [scenario.title, name, "FAILED" if error else result.result()])
        if error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("languages failed", [error for error in failures if isinstance(error, Exception)])
