"""How events become lines of the log."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import structlog
from appstatsd.database_url import DatabaseUrl
from appstatsd.observe.logging import RateLimited, configure, hide_passwords, set_level

PASSWORD = "hunter2"


@pytest.fixture
def stream(restored_logging: None) -> io.StringIO:
    return io.StringIO()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_time_level_and_logger_first(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    structlog.get_logger("appstatsd.drain").info("Batch\napplied", reports=3, path=Path("/x"), ratio=0.5, none=None)
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert list(found) == ["timestamp", "level", "logger", "event", "reports", "path", "ratio", "none"]
    assert found["timestamp"].endswith("Z")
    assert (found["level"], found["logger"], found["event"]) == ("info", "appstatsd.drain", "Batch\napplied")
    assert (found["reports"], found["path"], found["ratio"], found["none"]) == (3, "/x", 0.5, None)


def test_a_library_that_logs_the_standard_way_is_heard_in_the_same_form(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    logging.getLogger("asyncio").warning("%d of %s", 2, "four", extra={"waiting": 3})
    (found,) = events(stream)
    assert (found["logger"], found["level"], found["event"], found["waiting"]) == (
        "asyncio",
        "warning",
        "2 of four",
        3,
    )


def test_the_pool_says_only_what_it_cannot_mend_by_another_attempt(stream: io.StringIO) -> None:
    configure("debug", "json", stream)
    logging.getLogger("psycopg.pool").warning("error connecting: refused")
    logging.getLogger("psycopg.pool").error("worker died")
    assert [each["event"] for each in events(stream)] == ["worker died"]


def test_the_journal_gets_each_value_under_a_name_of_its_own(stream: io.StringIO) -> None:
    sent: list[dict[str, str]] = []
    configure("info", "journal", stream, lambda **fields: sent.append(fields))
    structlog.get_logger("appstatsd.drain").warning("Rows wait", backlog_rows=3, url=f"postgresql://a:{PASSWORD}@b/c")
    assert sent == [
        {
            "MESSAGE": "Rows wait backlog_rows=3 url=postgresql://a:***@b/c",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "appstatsd",
            "APPSTATSD_LOGGER": "appstatsd.drain",
            "APPSTATSD_EVENT": "Rows wait",
            "APPSTATSD_BACKLOG_ROWS": "3",
            "APPSTATSD_URL": "postgresql://a:***@b/c",
        }
    ]
    assert stream.getvalue() == ""


def test_an_exception_is_part_of_its_event(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    for log in (structlog.get_logger("a"), logging.getLogger("b")):
        try:
            raise RuntimeError("out of sorts")
        except RuntimeError:
            log.exception("Failed")
    for found in events(stream):
        assert found["event"] == "Failed"
        assert found["exception"].endswith("RuntimeError: out of sorts")


def test_the_journal_gets_a_priority_before_each_line(stream: io.StringIO) -> None:
    configure("debug", "journal", stream)
    log = structlog.get_logger("a")
    for method in (log.debug, log.info, log.warning, log.error, log.critical):
        method("Something", text="two\nlines")
    lines = stream.getvalue().splitlines()
    assert [line[:4] for line in lines] == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"]
    assert json.loads(lines[0][3:])["text"] == "two\nlines"


def test_the_console_is_for_people_and_not_for_what_clients_would_write_on_it(stream: io.StringIO) -> None:
    configure("info", "console", stream)
    structlog.get_logger("appstatsd.ingest").warning(
        "Client rejected", client_id="\x1b[31mred", text="two\nlines", reports=3
    )
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.count("\n") == 1
    assert "Client rejected" in text
    assert r"client_id='\x1b[31mred' reports=3 text='two\nlines'" in text


def test_the_level_can_change_while_loggers_are_in_use(stream: io.StringIO) -> None:
    configure("warning", "json", stream)
    own, library = structlog.get_logger("a").bind(part="x"), logging.getLogger("b")
    for level in ("warning", "debug", "error"):
        set_level(level)
        own.info("own", under=level)
        library.info("library under %s", level)
    assert [found["event"] for found in events(stream)] == ["own", "library under debug"]


def test_a_thread_that_dies_is_an_event(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    thread = threading.Thread(target=lambda: {}["missing"], name="deliverer")
    thread.start()
    thread.join()
    (found,) = events(stream)
    assert (found["level"], found["event"], found["thread"]) == ("critical", "A thread died", "deliverer")
    assert found["exception"].endswith("KeyError: 'missing'")


def test_a_warning_of_python_is_an_event(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("info", "json", stream)
        warnings.warn("old ways", stacklevel=1)
    (found,) = events(stream)
    assert (found["level"], found["logger"]) == ("warning", "py.warnings")
    assert "old ways" in found["event"]


@pytest.mark.parametrize("form", ["console", "json", "journal"])
def test_no_way_of_logging_a_database_shows_its_password(stream: io.StringIO, form: str) -> None:
    configure("info", form, stream)
    url = f"postgresql://app:{PASSWORD}@db/apps"
    log = structlog.get_logger("a")
    log.info(f"Connected to {url}", url=url, database=DatabaseUrl.parse(url), password=PASSWORD)
    log.info("Nested", parameters={"user": "app", "password": PASSWORD, "list": [url, (url, {url})]})
    log.info("As text", parameters=str({"user": "app", "password": PASSWORD}))
    logging.getLogger("psycopg").error("cannot connect: %s", f"host=db password='{PASSWORD} x' user=app")
    try:
        raise ConnectionError(url)
    except ConnectionError:
        log.exception("Failed", exc_info=True)
    assert stream.getvalue().count("app") > 5
    assert PASSWORD not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see postgresql://app:p@ss:w/rd@db:5432/apps now", "see postgresql://app:***@db:5432/apps now"),
        ("postgres://:x@db", "postgres://:***@db"),
        ("postgresql://app@db:5432/apps", "postgresql://app@db:5432/apps"),
        ("host=db password=x y", "host=db password=*** y"),
        (r"password = 'it\'s x' user=y", "password = *** user=y"),
        ("postgresql:///apps?password=x&user=y", "postgresql:///apps?password=***&user=y"),
        ("sslpassword=x", "sslpassword=***"),
        ('{"PGPASSWORD": "x y"}', '{"PGPASSWORD": ***}'),
        ('password authentication failed for user "app"', 'password authentication failed for user "app"'),
        ("12:30 mail a@b", "12:30 mail a@b"),
    ],
)
def test_a_password_is_hidden_and_what_is_none_is_kept(text: str, shown: str) -> None:
    assert hide_passwords(text) == shown


class Recorder:
    """A log that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def limited() -> tuple[RateLimited, Recorder, Clock]:
    log, clock = Recorder(), Clock()
    return RateLimited(log, most=2, interval_seconds=10, clock=clock), log, clock  # type: ignore[arg-type]


def test_a_burst_is_cut_and_counted_when_its_interval_is_over(limited: tuple[RateLimited, Recorder, Clock]) -> None:
    rate, log, clock = limited
    for number in range(5):
        rate.warning("rejected", "Report rejected", number=number)
    assert log.events == [("Report rejected", {"number": 0}), ("Report rejected", {"number": 1})]
    clock.now += 10
    rate.warning("rejected", "Report rejected", number=5)
    assert log.events[2:] == [
        ("Suppressed further events of a kind", {"kind": "rejected", "suppressed": 3}),
        ("Report rejected", {"number": 5}),
    ]


def test_kinds_do_not_take_each_others_share(limited: tuple[RateLimited, Recorder, Clock]) -> None:
    rate, log, _ = limited
    for kind in ("a", "a", "a", "b", "b", "b"):
        rate.warning(kind, kind)
    assert [event for event, _ in log.events] == ["a", "a", "b", "b"]


def test_what_a_last_burst_suppressed_is_told_once_its_interval_is_over(
    limited: tuple[RateLimited, Recorder, Clock],
) -> None:
    rate, log, clock = limited
    for _ in range(4):
        rate.warning("a", "a")
    rate.settle()
    assert len(log.events) == 2
    clock.now += 10
    rate.settle()
    rate.settle()
    assert log.events[2:] == [("Suppressed further events of a kind", {"kind": "a", "suppressed": 2})]
