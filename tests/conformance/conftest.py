"""Prints the table scenario × language when the suite has run."""

from __future__ import annotations

import pytest

from tests.conformance.scenario import languages, scenarios

FAILED = "FAILED"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cells = _cells(terminalreporter)
    if not cells:
        return
    names = [language.name for language in languages()]
    terminalreporter.write_line("")
    terminalreporter.write_line(f"| scenario | {' | '.join(names)} |")
    terminalreporter.write_line(f"| --- |{' --- |' * len(names)}")
    for scenario in scenarios():
        row = [cells.get((scenario.title, name), "") for name in names]
        if any(row):
            terminalreporter.write_line(f"| {scenario.title} | {' | '.join(row)} |")


def _cells(terminalreporter: pytest.TerminalReporter) -> dict[tuple[str, str], str]:
    cells: dict[tuple[str, str], str] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "conformance":
                    title, language, result = value
                    # Of one that failed, only what was recorded before it did is there.
                    cells[title, language] = result or {"passed": "yes", "skipped": "left out"}.get(outcome, FAILED)
    return cells
