"""Does `make bench` still work? With the smallest sizes; the figures that come out mean nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import PARTS, run_part
from tests.bench.figures import Figure, Results, ratio
from tests.bench.servers import ROOT, Bench
from tests.bench.sizes import TINY

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="needs go")


@needs_go
def test_every_part_gives_figures_that_are_ratios_and_every_target_a_verdict(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--tiny", f"--json={file}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(file.read_text())
    assert said["failed"] == {}
    assert set(said["seconds"]) == set(PARTS)
    assert {figure["part"] for figure in said["figures"]} == set(PARTS)
    assert {target["part"] for target in said["targets"]} == set(PARTS)
    assert {type(target["met"]) for target in said["targets"]} == {bool}
    for figure in said["figures"]:
        assert len(figure["runs"]) == TINY.runs, figure
        assert figure["median"] >= 0, figure
        assert figure["name"] in done.stdout
    for target in said["targets"]:
        assert target["target"] in done.stdout


@needs_go
def test_the_plain_go_collector_keeps_the_rules_that_it_is_measured_by() -> None:
    for command in (["go", "vet", "./..."], ["go", "test", "./..."]):
        done = subprocess.run(command, cwd=ROOT / "tests/bench/go_reference", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_part_that_fails_is_named_and_its_figures_so_far_are_kept(tmp_path: Path) -> None:
    def broken(bench: Bench) -> None:
        bench.results.add("a", "something", "s", [1.0])
        raise RuntimeError("the disk is full")

    results = Results()
    run_part("a", "a part", broken, Bench(tmp_path, TINY, results))
    assert results.failed == {"a": "RuntimeError: the disk is full"}
    assert [figure.name for figure in results.figures] == ["something"]


def test_a_ratio_is_taken_run_by_run() -> None:
    # A machine that got slower by ten times in the second and the third run.
    assert ratio([1.0, 10.0, 10.0], [2.0, 20.0, 20.0]) == 0.5
    assert Figure("a", "name", "s", [1.0, 30.0], {"Go": [4.0, 5.0]}).ratio("Go") == 3.125


def test_a_target_is_met_up_to_its_limit_and_no_further() -> None:
    results = Results()
    results.at_most("a", "cost", 0.75, 0.75)
    results.at_most("a", "cost", 0.76, 0.75)
    results.at_least("a", "rate", 0.9, 0.9)
    results.at_least("a", "rate", 0.89, 0.9)
    assert [target.met for target in results.targets] == [True, False, True, False]
    assert ["NOT MET" in line for line in results.verdicts()] == [False, True, False, True]
