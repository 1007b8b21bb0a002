"""Whether the pages lead to each other: no link goes nowhere, and every page is found from README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> list[Path]:
    """Where the page leads in the checkout."""
    found = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    return [(page.parent / link).resolve() for link in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    assert [str(link) for link in links(page) if not link.exists()] == []


def test_every_page_is_linked_from_the_readme() -> None:
    led_to = set(links(ROOT / "README.md"))
    pages = {page for page in (ROOT / "docs").iterdir() if page.is_file()}
    assert sorted(str(page) for page in pages - led_to) == []
