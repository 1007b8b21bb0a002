"""A daemon that writes nothing still notices its database."""

from __future__ import annotations

import queue
import threading

from appstatsd.deliver.watch import DatabaseWatch
from appstatsd.errors import StoreUnavailable
from structlog.testing import capture_logs

from tests.support.scripted_database import GONE, PATIENCE_SECONDS


class Script:
    """What each question comes to; after the last one, silence."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.found: queue.Queue[StoreUnavailable | None] = queue.Queue()
        self.looked = threading.Semaphore(0)

    def idle(self) -> bool:
        self.looked.release()
        return bool(self.answers)

    def probe(self) -> None:
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer

    def run(self, count: int) -> list[StoreUnavailable | None]:
        watch = DatabaseWatch(self.probe, self.idle, self.found.put, interval_seconds=0.001)
        watch.start()
        try:
            assert all(self.looked.acquire(timeout=PATIENCE_SECONDS) for _ in range(3))
            return [self.found.get(timeout=PATIENCE_SECONDS) for _ in range(count)]
        finally:
            watch.stop(PATIENCE_SECONDS)
            assert not watch._thread.is_alive()


def test_each_answer_is_told_and_an_outage_is_logged_once() -> None:
    with capture_logs() as logs:
        assert Script(None, GONE, GONE, GONE, None, GONE).run(6) == [None, GONE, GONE, GONE, None, GONE]
    assert [each["error"] for each in logs] == [str(GONE)] * 2


def test_an_unforeseen_error_does_not_end_it() -> None:
    with capture_logs() as logs:
        first, second = Script(RuntimeError("odd"), None).run(2)
    assert "odd" in str(first)
    assert second is None
    assert logs[0]["exc_info"]


def test_nothing_is_asked_while_rows_are_written() -> None:
    script = Script()
    assert script.run(0) == []
    assert script.found.empty()  # and `probe` would have found no answer
