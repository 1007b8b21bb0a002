"""Stubs that users of other languages generate: the templates work, and what they make speaks to the daemon."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from appstatsd.store.migrate import migrate

from tests.support.daemon import PATIENCE_SECONDS, DaemonProcess

ROOT = Path(__file__).parents[2]
OTHER = ROOT / "clients/other"
BUF = Path(sys.executable).with_name("buf")


def generate(language: str, folder: Path) -> None:
    """Into a folder of that language in the given one."""
    template = OTHER / f"buf.gen.{language}.yaml"
    command = [BUF, "generate", "--template", template, "--output", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_SECONDS)


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.mark.parametrize(
    ("language", "made"),
    [("cpp", "appstats.grpc.pb.h"), ("php", "SessionReportServiceClient.php"), ("ruby", "appstats_services_pb.rb")],
)
def test_the_template_makes_stubs_of_the_service(language: str, made: str, tmp_path: Path) -> None:
    need("protoc", f"grpc_{language}_plugin")
    generate(language, tmp_path)
    assert list((tmp_path / "build/generated" / language).rglob(made))


def test_a_session_reported_by_ruby_stubs_alone_is_a_row(tmp_path: Path, postgres_url: str) -> None:
    need("ruby", "protoc", "grpc_ruby_plugin")
    if subprocess.run(["ruby", "-e", 'require "grpc"'], capture_output=True).returncode:
        pytest.skip("needs the Ruby library grpc")
    generate("ruby", tmp_path)
    migrate(postgres_url)
    daemon = DaemonProcess(tmp_path, postgres_url, "--enable-test-clock")
    try:
        daemon.start()
        command = ["ruby", "-I", tmp_path / "build/generated/ruby", OTHER / "smoke.rb", daemon.target]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        daemon.flush(time.time_ns() // 1000 + 600_000_000)
        with psycopg.connect(postgres_url) as connection:
            rows = connection.execute(
                "SELECT session_id::text, access_method, requests FROM workspace_app_stats"
            ).fetchall()
        assert rows == [(done.stdout.strip(), "subdomain", 3)]
    finally:
        daemon.kill()
