"""The page that holds the table names every scenario and every language."""

from __future__ import annotations

from tests.conformance.scenario import ROOT, languages, scenarios


def test_the_table_of_the_page_is_that_of_the_suite() -> None:
    page = (ROOT / "docs/conformance.md").read_text()
    _, _, table = page.partition("<!-- table:")
    header, _, *rows = table.partition("<!-- end of table -->")[0].splitlines()[1:]
    assert header == f"| scenario | {' | '.join(language.name for language in languages())} |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == [scenario.title for scenario in scenarios()]
    assert all(cell == "yes" or cell.endswith(" s") for row in cells for cell in row[1:])
