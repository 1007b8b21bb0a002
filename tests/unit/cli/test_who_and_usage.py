"""What `who` and `usage` answer, over a real database."""

from __future__ import annotations

import csv
import io
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from appstatsd.cli import usage_plot
from appstatsd.collect.apps import app_key
from appstatsd.collect.rows import CELLS, EndSource, Rows
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from structlog.testing import capture_logs

from tests.unit.cli.conftest import Ended, FakeDaemon

Run = Callable[..., Ended]

NOW = datetime.now(UTC).replace(microsecond=0)
ANN, BEN = UUID(int=1), UUID(int=2)
DESK, SHED = UUID(int=11), UUID(int=12)
AGENT = UUID(int=21)


class Table:
    """A migrated database that a test fills."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sessions = 100
        migrate(url)
        self._reporter = PostgresReporter(url)

    def __enter__(self) -> Table:
        self._reporter.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._reporter.close()

    def row(
        self,
        user: UUID,
        workspace: UUID,
        slug: str,
        start: timedelta,
        end: timedelta,
        *,
        method: int = 1,
        sessions: int = 1,
        requests: int = 1,
        source: EndSource = EndSource.REPORTED,
    ) -> None:
        """`start` and `end` are how long ago that was."""
        self._sessions += 1
        cells = np.zeros(1, CELLS)
        cells["session_id"] = [self._sessions.to_bytes(16, "big")]
        cells["started_us"] = microseconds(NOW - start)
        cells["ended_us"] = cells["made_us"] = microseconds(NOW - end)
        cells["requests"], cells["sessions"], cells["end_source"] = requests, sessions, source
        with capture_logs():  # which would stand among what a command prints
            self._reporter.report(Rows([app_key(user.bytes, workspace.bytes, AGENT.bytes, method, slug)], cells))


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@pytest.fixture
def table(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setenv("APPSTATSD_DATABASE_URL", postgres_url)
    # Minutes may have passed since this file was read.
    monkeypatch.setitem(globals(), "NOW", datetime.now(UTC).replace(microsecond=0))
    with Table(postgres_url) as table:
        yield table


def words(text: str) -> str:
    return " ".join(text.split())


def test_who_says_what_is_in_use_since_when_and_by_which_app(run: Run, table: Table) -> None:
    table.row(ANN, DESK, "code", minutes(50), minutes(0), requests=1234, source=EndSource.LIVE)
    table.row(BEN, DESK, "", minutes(30), minutes(10), method=3, source=EndSource.LIVE)
    table.row(BEN, DESK, "8080", minutes(90), minutes(70))
    table.row(ANN, SHED, "other", minutes(40), minutes(0), source=EndSource.LIVE)
    ended = run("who", str(DESK))
    assert ended.status == 0
    text = words(ended.out)
    assert "in use: 2 live sessions" in text
    assert "workspaces.last_used_at is" in text
    lines = [words(line) for line in ended.out.splitlines()]
    [ann] = [line for line in lines if f"{ANN} {AGENT} code path 1,234" in line]
    assert "50m" in ann
    assert "orphan" not in ann
    [ben] = [line for line in lines if f"{BEN} {AGENT} - terminal" in line]
    assert "an orphan?" in ben
    [before] = [line for line in lines if f"{BEN} {AGENT} 8080 path 1 20m 0s" in line]
    assert lines.index(before) > lines.index("before") > lines.index(ben)
    assert "other" not in text


def test_who_says_that_a_workspace_is_idle_and_what_was_last(run: Run, table: Table) -> None:
    table.row(ANN, DESK, "code", minutes(50), minutes(40))
    text = words(run("who", str(DESK)).out)
    assert "not in use; last" in text
    assert "40m" in text
    assert "never was" in run("who", str(SHED)).out


def test_who_is_asked_for_a_user_and_for_a_user_in_a_workspace(run: Run, table: Table) -> None:
    table.row(ANN, DESK, "code", minutes(50), minutes(0), source=EndSource.LIVE)
    table.row(ANN, SHED, "jupyter", minutes(50), minutes(0), source=EndSource.LIVE)
    table.row(BEN, SHED, "8080", minutes(50), minutes(0), source=EndSource.LIVE)
    text = words(run("who", "--user", str(ANN)).out)
    assert f"{DESK} {AGENT} code" in text
    assert f"{SHED} {AGENT} jupyter" in text
    assert "8080" not in text
    both = run("who", str(SHED), "--user", str(ANN)).out
    assert "jupyter" in both
    assert "code" not in both
    assert "8080" not in both


def test_who_as_json_has_all_that_the_page_has(run: Run, table: Table) -> None:
    table.row(ANN, DESK, "code", minutes(50), minutes(1), requests=7, source=EndSource.LIVE)
    for place in range(4):
        table.row(BEN, DESK, f"{place}", minutes(60 + place), minutes(50 + place))
    answer = json.loads(run("who", str(DESK), "--json", "--last", "2").out)
    assert answer["workspace_id"] == str(DESK)
    assert answer["user_id"] is None
    [live] = answer["live"]
    assert (live["user_id"], live["slug_or_port"], live["access_method"], live["requests"]) == (
        str(ANN),
        "code",
        "path",
        7,
    )
    assert datetime.fromisoformat(live["started_at"]) == NOW - minutes(50)
    assert live["ended_at"] is None
    assert datetime.fromisoformat(live["last_seen_at"]) == NOW - minutes(1)
    assert [session["slug_or_port"] for session in answer["lately"]] == ["0", "1"]
    assert datetime.fromisoformat(answer["last_used_at"]) == NOW - minutes(1)


def test_who_wants_to_know_of_whom(run: Run) -> None:
    ended = run("who")
    assert ended.status == 2
    assert "give a WORKSPACE, or --user" in ended.err
    assert run("who", "desk").status == 2


def fill(table: Table) -> None:
    table.row(ANN, DESK, "code", minutes(120), minutes(60), requests=5)
    table.row(ANN, DESK, "8080", minutes(90), minutes(30), method=2, sessions=3, requests=7)
    table.row(BEN, DESK, "code", minutes(20), minutes(10))
    table.row(BEN, SHED, "", minutes(60 * 24 * 8), minutes(60 * 24 * 8 - 5), method=3)


def test_usage_counts_overlapping_sessions_of_one_user_once(run: Run, table: Table) -> None:
    fill(table)
    answer = json.loads(run("usage", "--json").out)
    assert answer["by"] == "user"
    found = {used["key"]: (used["seconds"], used["sessions"], used["requests"]) for used in answer["usage"]}
    assert found == {str(ANN): (90 * 60, 4, 12), str(BEN): (10 * 60, 1, 1)}
    assert [used["key"] for used in answer["usage"]] == [str(ANN), str(BEN)]


def test_usage_does_not_count_the_time_between_sessions(run: Run, table: Table) -> None:
    table.row(ANN, DESK, "code", minutes(120), minutes(110))
    table.row(ANN, DESK, "code", minutes(40), minutes(35))
    [used] = json.loads(run("usage", "--json").out)["usage"]
    assert used["seconds"] == 15 * 60


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("workspace", {str(DESK): (100, 2), str(SHED): (5, 1)}),
        ("app", {"code (path)": (70, 2), "8080 (subdomain)": (60, 1), "terminal": (5, 1)}),
        ("method", {"path": (70, 2), "subdomain": (60, 1), "terminal": (5, 1)}),
    ],
)
def test_usage_is_summed_by(run: Run, table: Table, by: str, expected: dict[str, tuple[int, int]]) -> None:
    fill(table)
    answer = json.loads(run("usage", "--by", by, "--since", "9d", "--json").out)
    assert {used["key"]: (used["seconds"] / 60, used["users"]) for used in answer["usage"]} == expected


def test_usage_is_of_a_span_that_cuts_sessions(run: Run, table: Table) -> None:
    fill(table)
    since, until = NOW - minutes(80), NOW - minutes(15)
    answer = json.loads(run("usage", "--since", since.isoformat(), "--until", until.isoformat(), "--json").out)
    assert {used["key"]: (used["seconds"] / 60, used["sessions"]) for used in answer["usage"]} == {
        str(ANN): (50, 0),
        str(BEN): (5, 1),
    }


def test_usage_prints_a_bar_for_each_line(run: Run, table: Table) -> None:
    fill(table)
    ended = run("usage", "--by", "app", "--since", "9d", "--limit", "2")
    lines = ended.out.splitlines()
    [code] = [line for line in lines if line.startswith("code (path)")]
    [port] = [line for line in lines if line.startswith("8080 (subdomain)")]
    assert "1h 10m" in code
    assert code.count("█") == 30
    assert 20 <= port.count("█") < 30
    assert "and 1 more" in ended.out
    assert "terminal" not in ended.out
    assert "nothing was used" in run("usage", "--until", "6d").out


def test_usage_as_csv_is_read_by_others(run: Run, table: Table) -> None:
    fill(table)
    rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "workspace", "--csv").out)))
    assert [(row["workspace"], float(row["seconds"]), row["users"]) for row in rows] == [(str(DESK), 6000, "2")]


def test_usage_is_drawn_as_svg_with_its_names_as_text(run: Run, table: Table, tmp_path: Path) -> None:
    table.row(ANN, DESK, "a$b_$c<", minutes(120), minutes(60))
    path = tmp_path / "usage.svg"
    assert run("usage", "--by", "app", "--plot", str(path)).status == 0
    texts = ["".join(part.itertext()).strip() for part in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    assert "a$b_$c< (path)" in texts
    assert "hours in use" in texts


def test_usage_is_drawn_as_png(run: Run, table: Table, tmp_path: Path) -> None:
    fill(table)
    path = tmp_path / "usage.png"
    assert run("usage", "--plot", str(path)).status == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_plot_needs_a_library_a_known_suffix_and_a_folder(
    run: Run, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "must end in .svg or .png" in run("usage", "--plot", str(tmp_path / "a.gif")).err
    ended = run("usage", "--plot", str(tmp_path / "none" / "a.svg"))
    assert ended.status == 1
    assert "cannot be written" in ended.err
    monkeypatch.setattr(usage_plot, "find_spec", lambda name: None)
    ended = run("usage", "--plot", str(tmp_path / "a.svg"))
    assert ended.status == 1
    assert "pip install 'appstatsd[plot]'" in ended.err


def test_the_table_needs_no_plotting_library(run: Run, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("usage").status == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "soon"), "'soon' is no time"),
        (("--since", "1d", "--until", "2d"), "must lie before --until"),
        (("--json", "--csv"), "exclude each other"),
        (("--by", "colour"), "--by"),
    ],
)
def test_what_usage_cannot_mean_is_said(run: Run, arguments: tuple[str, ...], said: str) -> None:
    ended = run("usage", *arguments)
    assert ended.status == 2
    assert said in ended.err


def test_a_database_without_the_views_is_told_to_be_migrated(run: Run, postgres_url: str) -> None:
    for command in (("usage",), ("who", str(DESK))):
        ended = run(*command, "--database-url", postgres_url)
        assert ended.status == 1
        assert "appstatsd migrate" in ended.err


def test_the_embedded_database_is_asked_for_where_none_is_set(run: Run, postgres_url: str, daemon: FakeDaemon) -> None:
    migrate(postgres_url)
    daemon.answers["GetStatus"] = wire.GetStatusResponse(database_url=postgres_url)
    assert "nothing was used" in run("usage").out
    daemon.answers["GetStatus"] = wire.GetStatusResponse()
    assert "does not run yet" in run("usage").err


def test_without_a_database_and_a_daemon_it_says_what_was_tried(run: Run) -> None:
    ended = run("usage")
    assert ended.status == 69
    assert "--database-url is not set" in ended.err
