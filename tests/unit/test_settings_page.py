"""The page on settings says what the code does."""

from __future__ import annotations

from pathlib import Path

from appstatsd.cli.settings_page import renewed, table
from appstatsd.settings import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_table_in_the_page_is_the_one_in_the_code() -> None:
    assert renewed(PAGE.read_text()) == PAGE.read_text(), f"run: python -m appstatsd.cli.settings_page {PAGE}"


def test_the_table_has_a_line_for_every_setting() -> None:
    lines = table().splitlines()
    for row in TABLE:
        assert sum(line.startswith(f"| `{row.flag}`") for line in lines) == 1
