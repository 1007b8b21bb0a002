"""How a unix socket comes to its path, with its rights, and never over another daemon's."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from appstatsd.ingest.sockets import MAX_PATH_BYTES, PublicSocket, SocketTaken

NOBODY = 65_534


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Listener:
    """What gRPC does with the path that it is given."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen()

    def close(self) -> None:
        self.socket.close()


Serve = Callable[..., PublicSocket]


@pytest.fixture
def serve(cleanup: ExitStack) -> Serve:
    def serve(path: Path, mode: int = 0o660, gid: int | None = None) -> PublicSocket:
        public = PublicSocket(path, mode, gid)
        cleanup.callback(public.withdraw)
        listener = Listener(public.claim())
        cleanup.callback(listener.close)
        public.publish()
        return public

    return serve


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def claim(path: Path) -> str:
    """Why the path cannot be claimed."""
    public = PublicSocket(path, 0o660, None)
    try:
        with pytest.raises(SocketTaken) as caught:
            public.claim()
    finally:
        public.withdraw()
    return str(caught.value)


def test_the_socket_has_its_mode_and_group_and_answers_as_soon_as_it_can_be_found(
    tmp_path: Path, cleanup: ExitStack
) -> None:
    path = tmp_path / "a.sock"
    found: list[tuple[int, int]] = []
    there, missing, done = threading.Event(), threading.Event(), threading.Event()

    def probe() -> None:
        while not done.is_set():
            try:
                state = path.stat()
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, suppress(BlockingIOError):
                    client.setblocking(False)  # as nobody accepts, those that wait may be too many
                    client.connect(str(path))
            except FileNotFoundError:
                missing.set()
            else:
                found.append((stat.S_IMODE(state.st_mode), state.st_gid))
                there.set()

    def probed(finding: threading.Event) -> None:
        """The prober, which may have been under way, has found this anew."""
        for _ in range(2):
            finding.clear()
            assert finding.wait(30) or prober.result()

    with ThreadPoolExecutor(1) as pool:
        prober = pool.submit(probe)
        cleanup.callback(done.set)
        for _ in range(30):
            public = PublicSocket(path, 0o620, NOBODY)
            listener = Listener(public.claim())
            public.publish()
            probed(there)
            public.withdraw()
            probed(missing)
            listener.close()
        done.set()
        prober.result()
    assert set(found) == {(0o620, NOBODY)}


def test_nobody_else_can_reach_it_before(tmp_path: Path, cleanup: ExitStack) -> None:
    public = PublicSocket(tmp_path / "a.sock", 0o660, None)
    cleanup.callback(public.withdraw)
    folder = public.claim().parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_process_umask_is_left_as_it_is(tmp_path: Path, serve: Serve) -> None:
    before = os.umask(0o027)
    try:
        serve(tmp_path / "a.sock", 0o666)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o666


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "a.sock"
    Listener(path).close()
    assert not answers(path)
    serve(path)
    assert answers(path)


def test_a_socket_that_is_served_is_not_taken_over(tmp_path: Path, cleanup: ExitStack) -> None:
    path = tmp_path / "a.sock"
    listener = Listener(path)
    cleanup.callback(listener.close)
    assert claim(path) == f"another process serves the socket {path}; stop it, or choose another --listen"
    assert answers(path)


def test_a_path_that_another_daemon_is_about_to_serve_is_not_taken_either(tmp_path: Path, cleanup: ExitStack) -> None:
    path = tmp_path / "a.sock"
    first = PublicSocket(path, 0o660, None)
    cleanup.callback(first.withdraw)
    first.claim()
    assert claim(path) == f"another daemon holds the socket {path}; stop it, or choose another --listen"


def test_a_path_with_something_else_on_it_is_let_be(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    assert claim(path) == f"{path} is there and is no socket; remove it, or choose another --listen"
    assert path.read_text() == "precious"


def test_a_link_is_let_be_whatever_it_leads_to(tmp_path: Path) -> None:
    path, target = tmp_path / "a.sock", tmp_path / "b.sock"
    Listener(target).close()
    path.symlink_to(target)
    assert "is no socket" in claim(path)
    assert path.is_symlink()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.sock"
    assert claim(path) == f"the folder of the socket {path} is not there; make it, or choose another --listen"


def test_a_path_of_107_bytes_is_served(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / ("a" * (MAX_PATH_BYTES - len(str(tmp_path)) - 1))
    assert len(str(path)) == MAX_PATH_BYTES
    serve(path)
    assert answers(path)


def test_a_path_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ("a" * (MAX_PATH_BYTES - len(str(tmp_path))))
    assert "is too long for a unix socket (107 bytes at most" in claim(path)
    assert [each.suffix for each in tmp_path.iterdir()] == [".lock"]


def test_a_folder_too_deep_for_the_place_where_the_socket_is_made_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * (MAX_PATH_BYTES - len(str(tmp_path)) - 10))
    folder.mkdir()
    assert "included); choose a shorter --listen" in claim(folder / "a.sock")
    assert [each.suffix for each in folder.iterdir()] == [".lock"]


def test_withdrawing_takes_the_socket_and_all_that_was_made_for_it_but_the_lock_file(
    tmp_path: Path, serve: Serve
) -> None:
    serve(tmp_path / "a.sock").withdraw()
    assert [each.name for each in tmp_path.iterdir()] == ["a.sock.lock"]


def test_withdrawing_leaves_what_somebody_else_put_in_its_place(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "a.sock"
    public = serve(path)
    path.unlink()
    path.write_text("precious")
    public.withdraw()
    assert path.read_text() == "precious"


def test_a_path_that_was_given_back_can_be_served_again(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "a.sock"
    serve(path).withdraw()
    serve(path)
    assert answers(path)


def test_sockets_side_by_side_leave_each_other_alone_whatever_their_names(tmp_path: Path, cleanup: ExitStack) -> None:
    paths = [tmp_path / name for name in ("appstatsd.sock", "appstatsd-admin.sock", "appstats")]
    sockets = [PublicSocket(path, 0o660, None) for path in paths]
    for public in sockets:
        cleanup.callback(public.withdraw)
    for listener in [Listener(public.claim()) for public in sockets]:
        cleanup.callback(listener.close)
    for public in sockets:
        public.publish()
    assert all(answers(path) for path in paths)


def test_what_a_killed_daemon_left_half_made_is_swept_away(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "a.sock"
    killed = PublicSocket(path, 0o660, None)
    Listener(killed.claim()).close()
    left = next(each for each in tmp_path.iterdir() if each.is_dir())
    # Its lock goes with its process; here a copy of what it made outlives it.
    shutil.copytree(left, tmp_path / "copy", copy_function=lambda *_: None)
    killed.withdraw()
    (tmp_path / "copy").rename(left)
    serve(path).withdraw()
    assert [each.name for each in tmp_path.iterdir()] == ["a.sock.lock"]
