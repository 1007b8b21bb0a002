"""SQL files become statements for the tables that are there."""

from __future__ import annotations

import itertools

import pytest
from appstatsd.store.schema import OPTIONAL_COLUMNS, STATS, WORKSPACES
from appstatsd.store.statements import migrations, statement

SUBSETS = [set(some) for n in range(4) for some in itertools.combinations(sorted(OPTIONAL_COLUMNS), n)]


@pytest.mark.parametrize("columns", SUBSETS)
def test_the_upsert_names_an_optional_column_only_where_the_table_has_it(columns: set[str]) -> None:
    text = statement("upsert", columns, stale="false")
    target = text.partition("SELECT")[0] + text.partition("ON CONFLICT")[2]
    for column in OPTIONAL_COLUMNS:
        assert (column in target) == (column in columns)


def test_comments_and_conditions_are_not_sent() -> None:
    assert "--" not in statement("upsert", OPTIONAL_COLUMNS, stale="false")


def test_migrations_of_a_table_are_numbered_from_one_without_a_gap() -> None:
    for table in (STATS, WORKSPACES):
        numbers = [number for number, _ in migrations(table)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers
