"""Stands in for the daemon where a test wants it in a process of its own, to be killed or run as somebody else.

Run with a state directory: starts the embedded server, prints one line of JSON, waits for the end of its
input and stops the server.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import structlog
from appstatsd.store.embedded import EmbeddedPostgres
from appstatsd.store.embedded_folder import EmbeddedPostgresRefused


def main(state_dir: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    embedded = EmbeddedPostgres(Path(state_dir))
    try:
        url = embedded.start()
    except EmbeddedPostgresRefused as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return
    print(json.dumps({"url": url}), flush=True)
    sys.stdin.read()
    embedded.stop()


if __name__ == "__main__":
    main(sys.argv[1])
