"""What does a client cost its proxy? `make bench-clients` prints it for each language, beside one empty unary gRPC call.

Each language runs against a real daemon of its own, one after another, with its default limits: the shell sends while the
proxy's calls are timed, as it would.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.conformance.command import Command, build, missing
from tests.conformance.scenario import languages
from tests.support.daemon import DaemonProcess

ROUNDS = 9
PAIRS = 10_000
CALLS = 2_000
NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"
"""A database that is not there: what is timed does not wait for it."""


def main() -> None:
    print(
        "| language | begin + end | empty unary call | calls of the proxy in one unary call |\n| --- | --- | --- | --- |"
    )
    for language in (each.as_timed() for each in languages()):
        if lacking := missing(language):
            print(f"| {language.name} | left out: needs {', '.join(lacking)} | | |")
            continue
        build(language)
        with tempfile.TemporaryDirectory() as folder:
            daemon = DaemonProcess(Path(folder), NOWHERE)
            daemon.start()
            command = Command(language, Path(folder) / "log")
            try:
                cost = command.tell("bench", target=daemon.target, rounds=ROUNDS, pairs=PAIRS, calls=CALLS)
            finally:
                command.kill()
                daemon.kill()
        pair_us, call_us = cost["begin_end_ns"] / 1000, cost["unary_call_ns"] / 1000
        print(f"| {language.name} | {pair_us:.2f} µs | {call_us:.0f} µs | {2 * call_us / pair_us:.0f} |")


if __name__ == "__main__":
    main()
