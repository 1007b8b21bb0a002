"""Does the first thing that a newcomer runs work?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("proxy", "said"), [("--envoy", "a stock Envoy"), ("--no-envoy", "a proxy in front")])
def test_the_demo_shows_rows_that_add_up_to_the_traffic_and_a_healthy_status(proxy: str, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "appstatsd", "demo", "--seconds", "3", proxy],
        capture_output=True,
        text=True,
        timeout=240,
        env={"COLUMNS": "120", "PATH": "/usr/bin:/bin"},
    )

    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    done = json.loads(next(line for line in lines if "they did" in line).split(":", 1)[1])
    begin = next(number for number, line in enumerate(lines) if line.startswith("user")) + 1
    end = next(number for number, line in enumerate(lines) if line.startswith("5 "))
    sessions = [int(line.split()[-2]) for line in lines[begin:end]]
    assert sum(sessions) == done["pages"] + done["websockets"]
    assert "all is well" in ran.stdout
    assert said in ran.stdout
    assert "use by user" in ran.stdout
