"""Whether the dashboard is one that Grafana can load, as far as can be had without it, and asks for what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.support.machine import ROOT
from tests.unit.observe.test_metrics import NAMES

DASHBOARD = json.loads((ROOT / "docs/grafana/appstatsd.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_its_panels_have_what_grafana_wants_and_do_not_overlap() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert 0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"]
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_it_asks_for_metrics_that_there_are() -> None:
    asked = {name.removesuffix("_bucket") for query in QUERIES for name in re.findall(r"appstatsd_(\w+)", query)}
    assert asked <= NAMES


def test_prometheus_understands_its_queries(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (the package prometheus)")
    rules = [
        {"record": f"a:{place}", "expr": query.replace("$__rate_interval", "5m")} for place, query in enumerate(QUERIES)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
