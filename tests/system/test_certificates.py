"""What a daemon process does when the files of its certificates are replaced while it runs."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import DaemonProcess
from tests.support.raw_client import Ended, RawStream, request
from tests.system.conftest import NewDaemon

PEM = Path(__file__).parents[1] / "support/pem"
NEXT = PEM / "next"
FILES = ("daemon.pem", "daemon-key.pem", "ca.pem")
RELOADED = "the TLS certificates are reloaded"
KEPT = "the TLS certificates are not reloaded; those in force stay"


class Site:
    """A daemon that serves TLS alone, with certificates in a folder of its own, and clients of either authority."""

    def __init__(self, new_daemon: NewDaemon, folder: Path) -> None:
        self.folder = folder
        self.put(PEM)
        self.daemon: DaemonProcess = new_daemon(
            "postgresql://nobody@127.0.0.1:1/none",
            "--listen=127.0.0.1:0",
            f"--tls-cert={folder / 'daemon.pem'}",
            f"--tls-key={folder / 'daemon-key.pem'}",
            f"--tls-client-ca={folder / 'ca.pem'}",
        )
        self.daemon.start()
        [address] = self.daemon.addresses
        self._target = f"localhost:{address.rpartition(':')[2]}"

    def put(self, source: Path, *names: str) -> None:
        """Replace files, as what renews certificates does: each by a rename."""
        for name in names or FILES:
            shutil.copy(source / name, self.folder / "coming")
            (self.folder / "coming").rename(self.folder / name)

    def open(self, client: Path, daemon: Path) -> RawStream:
        """A stream with a certificate of one authority, which trusts daemons of another."""
        credentials = grpc.ssl_channel_credentials(
            (daemon / "ca.pem").read_bytes(),
            (client / "client-key.pem").read_bytes(),
            (client / "client.pem").read_bytes(),
        )
        stream = RawStream(self._target, credentials=credentials)
        stream.send(request(client_id=f"{client.name}-{id(stream)}"))
        return stream

    def refuses(self, client: Path, daemon: Path) -> Ended:
        with self.open(client, daemon) as stream:
            return stream.end()

    def takes(self, client: Path, daemon: Path) -> bool:
        with self.open(client, daemon) as stream:
            return stream.receive().acked_sequence == 0

    def said(self, text: str) -> int:
        return sum(event["event"].lower() == text.lower() for event in self.daemon.log)


@pytest.fixture
def site(new_daemon: NewDaemon, tmp_path: Path) -> Site:
    folder = tmp_path / "pem"
    folder.mkdir()
    return Site(new_daemon, folder)


def test_new_connections_meet_the_new_certificates_and_streams_that_are_open_stay(site: Site) -> None:
    with site.open(PEM, PEM) as running:
        running.receive()
        assert site.refuses(NEXT, PEM).code is grpc.StatusCode.UNAVAILABLE
        site.put(NEXT)
        assert site.takes(NEXT, NEXT)
        assert site.refuses(PEM, NEXT).code is grpc.StatusCode.UNAVAILABLE  # its authority is no longer trusted
        assert site.refuses(NEXT, PEM).code is grpc.StatusCode.UNAVAILABLE  # it does not know the daemon's
        running.send(request(closing=True))
        assert running.end().code is grpc.StatusCode.OK
    assert site.daemon.wait_for_event(RELOADED)["cert"] == str(site.folder / "daemon.pem")
    assert site.said(RELOADED) == 1


@pytest.mark.parametrize(
    ("name", "content", "setting", "error"),
    [
        ("daemon-key.pem", NEXT / "daemon-key.pem", "tls-key", "it must be the unencrypted PEM key of the first"),
        ("daemon.pem", PEM / "README.md", "tls-cert", "allowed is a file with one or more PEM certificates"),
        ("ca.pem", PEM / "README.md", "tls-client-ca", "allowed is a file with one or more PEM certificates"),
        ("ca.pem", None, "tls-client-ca", "the file cannot be read: No such file or directory"),
    ],
    ids=["another key", "no certificate", "no authority", "no file"],
)
def test_files_that_do_not_serve_leave_the_old_ones_in_force_and_are_named_once(
    site: Site, name: str, content: Path | None, setting: str, error: str
) -> None:
    if content is None:
        (site.folder / name).unlink()
    else:
        shutil.copy(content, site.folder / name)
    assert site.takes(PEM, PEM)
    assert site.takes(PEM, PEM)
    event = site.daemon.wait_for_event(KEPT)
    assert (event["level"], event["setting"], event["path"]) == ("error", setting, str(site.folder / name))
    assert error in event["error"]
    assert site.said(KEPT) == 1
    site.put(NEXT)
    assert site.takes(NEXT, NEXT)
    site.daemon.wait_for_event(RELOADED)


def test_a_reload_looks_at_them_at_once(site: Site) -> None:
    site.put(NEXT, "daemon.pem")
    site.daemon.signal(signal.SIGHUP)
    event = site.daemon.wait_for_event("the settings are not reloaded; those in force stay")
    assert event["error"].startswith("setting tls-key ")
    assert site.takes(PEM, PEM)
    site.put(NEXT)
    site.daemon.signal(signal.SIGHUP)
    site.daemon.wait_for_event(RELOADED)
    assert site.takes(NEXT, NEXT)
