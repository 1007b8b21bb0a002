"""What Prometheus sees: the names of SPEC section 6, in a form that Prometheus's own lint passes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from appstatsd.addresses import TcpAddress
from appstatsd.collect.rules import Rules
from appstatsd.deliver.figures import DatabaseState, Figures
from appstatsd.drain import Question
from appstatsd.events import Came, Flushed
from appstatsd.ledger import Ledger
from appstatsd.observe.metrics import Metrics, MetricsRefused, Parts
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.reports import HOUR, T0

DOCS = Path(__file__).parents[3] / "docs"
NAMES = {
    *("reports_accepted_total", "reports_rejected_total", "reports_duplicate_total"),
    *("reports_dropped_by_clients_total", "live_sessions", "groups", "sessions_abandoned_total", "clients"),
    *("connected_streams", "backlog_rows", "backlog_oldest_seconds", "quarantined_rows", "rows_written_total"),
    *(
        "rows_written_late_total",
        "rows_removed_total",
        "flush_seconds",
        "ack_seconds",
        "journal_bytes",
        "journal_damaged",
        "database_up",
    ),
    *("database_errors_total", "pool_size", "build_info", "start_time_seconds"),
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Scraped:
    """A daemon's metrics, served."""

    ledger: Ledger = field(default_factory=lambda: Ledger(Rules()))
    metrics: Metrics = field(default_factory=Metrics)
    address: TcpAddress = field(default_factory=lambda: TcpAddress("127.0.0.1", _free_port()))

    def put(self, question: Question) -> None:
        question.ask(self.ledger)

    def text(self) -> str:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as response:
            return str(response.read().decode())

    def value(self, name: str) -> float:
        [found] = re.findall(rf"^appstatsd_{name} (\S+)$", self.text(), re.MULTILINE)
        return float(found)


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    scraped = Scraped()
    figures = Figures(DatabaseState.UP, "", 0, rows_written=3, rows_written_late=1, errors={"08": 2})
    parts = Parts(
        scraped.put,
        lambda ledger: wire.GetStatusResponse(version="1.2.3", started_at_unix_nano=5_000_000_000),
        lambda: figures,
        lambda: {"pool_size": 1, "requests_waiting": 0, "requests_wait_ms": 1, "connections_errors": 2},
        removed=lambda: 7,
    )
    scraped.metrics.serve(scraped.address, parts)
    yield scraped
    scraped.metrics.close()


def names(text: str) -> set[str]:
    """What the families are called, without the prefix."""
    return set(re.findall(r"^# TYPE appstatsd_(\w+) ", text, re.MULTILINE))


def test_all_metrics_of_the_contract_are_there(scraped: Scraped) -> None:
    assert names(scraped.text()) >= NAMES


def test_prometheus_finds_no_fault_with_them(scraped: Scraped) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (the package prometheus)")
    done = subprocess.run([promtool, "check", "metrics"], input=scraped.text(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_clients_dropped_stays_counted_when_they_are_forgotten(scraped: Scraped) -> None:
    ledger = scraped.ledger
    ledger.apply_all([Came(1, "a", T0, 0, 5), Came(2, "a", T0, 0, 3), Came(3, "b", T0, 0, 2)])
    assert scraped.value("reports_dropped_by_clients_total") == 7
    late = Rules().client_retention_us + HOUR
    for stream in (2, 3):
        ledger.collector.went("a" if stream == 2 else "b", T0, 0)
    ledger.flushed(Flushed(T0 + late, T0 + late, late))
    assert len(list(ledger.collector.clients)) == 0
    assert scraped.value("reports_dropped_by_clients_total") == 7


def test_an_address_that_is_taken_is_said_with_its_setting(scraped: Scraped) -> None:
    with pytest.raises(MetricsRefused, match=r"--metrics-listen 127\.0\.0\.1:\d+ can't be listened on"):
        Metrics().serve(scraped.address, Parts(scraped.put, wire.GetStatusResponse, Figures, dict))  # type: ignore[arg-type]


def test_prometheus_takes_the_alert_rules(scraped: Scraped) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (the package prometheus)")
    done = subprocess.run([promtool, "check", "rules", DOCS / "alerts/appstatsd.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_names_metrics_that_there_are_and_has_its_page_in_the_runbook(scraped: Scraped) -> None:
    there = names(scraped.text())
    runbook = (DOCS / "runbook.md").read_text()
    [group] = yaml.safe_load((DOCS / "alerts/appstatsd.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert set(re.findall(r"appstatsd_(\w+)", rule["expr"])) <= there
        assert f"\n## {rule['alert']}\n" in runbook
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
