"""Whether the dashboard of use is one that Grafana can load, and its queries are some that PostgreSQL answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import psycopg
import pytest
from appstatsd.store.migrate import migrate

from tests.support.machine import ROOT

DASHBOARD = json.loads((ROOT / "docs/grafana/usage.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
NOW = datetime.now(UTC)

ROWS = """
INSERT INTO workspace_app_stats (
    user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
    session_started_at, session_ended_at, requests, end_source, updated_at
)
SELECT
    gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'path', 'code', gen_random_uuid(),
    now() - n * interval '1 hour', now() - n * interval '1 hour' + interval '20 minutes', 1,
    CASE n WHEN 1 THEN 'live' ELSE 'reported' END, now() - n * interval '1 hour'
FROM generate_series(1, 20) AS n
"""


def expanded(query: str) -> str:
    """As Grafana would send it for the last two days."""
    for macro, moment in (("$__timeFrom()", NOW - timedelta(days=2)), ("$__timeTo()", NOW)):
        query = query.replace(macro, f"'{moment:%Y-%m-%dT%H:%M:%SZ}'")
    query = query.replace("$__interval", "5m")
    assert "$" not in query
    return query


def test_its_panels_have_what_grafana_wants_and_do_not_overlap() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries", "table")
        assert panel["title"]
        assert panel["datasource"] == {"type": "grafana-postgresql-datasource", "uid": "${datasource}"}
        assert 0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"]
        for target in panel["targets"]:
            assert target["rawQuery"]
            assert target["format"] == ("time_series" if panel["type"] == "timeseries" else "table")
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


@pytest.mark.parametrize("empty", [True, False])
def test_postgresql_answers_each_query(postgres_url: str, empty: bool) -> None:
    migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        if not empty:
            connection.execute(ROWS.encode())
        for panel in PANELS:
            for target in panel["targets"]:
                cursor = connection.execute(expanded(target["rawSql"]).encode())
                rows = cursor.fetchall()
                names = [column.name for column in cursor.description or ()]
                _see(panel, names, rows, empty)


def _see(panel: dict[str, Any], names: list[str], rows: list[tuple[Any, ...]], empty: bool) -> None:
    shown = [each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]]
    assert set(shown) <= set(names), panel["title"]
    if panel["type"] == "timeseries":
        assert names[0] == "time"
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    if panel["type"] == "stat":
        [(value,)] = rows
        assert (value == 0) == empty, panel["title"]
    elif not empty:
        assert rows, panel["title"]
