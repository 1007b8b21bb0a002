"""Which tests did not run, and is that all right?

A pytest plugin: names at the end what was left out for lack of something on this machine, and with `--nothing-left-out`
fails for it.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nothing-left-out", action="store_true", help="fail if a test was skipped or deselected")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if (
        exitstatus == pytest.ExitCode.OK
        and session.config.getoption("--nothing-left-out")
        and _left_out(session.config)
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in _left_out(config):
        terminalreporter.write_line(f"left out: {line}", yellow=True)


def _left_out(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return []
    skipped = [f"{report.nodeid}: {_reason(report)}" for report in reporter.stats.get("skipped", [])]
    return skipped + [f"{item.nodeid}: deselected" for item in reporter.stats.get("deselected", [])]


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "no reason given"
