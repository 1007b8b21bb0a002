"""Where a command line becomes a command, and what went wrong becomes one line and an exit status.

Invariant: nobody who types a command sees a traceback, and no process list shows a password for longer than it takes to
start. So nothing is loaded before the password is hidden, not even what reads the command line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final

from appstatsd.loading import kept_for_good

_HIDDEN_URL: Final = "_APPSTATSD_HIDDEN_DATABASE_URL"
_LIKE_A_PASSWORD: Final = re.compile(r"//[^/?#@]*:.*@|password", re.IGNORECASE)


def main() -> int:
    """Run the command that the process was started with; the exit status."""
    _hide_password()
    with kept_for_good():
        import click

        from appstatsd.cli import exits
        from appstatsd.cli.commands import cli
        from appstatsd.errors import AppstatsdError
    try:
        result = cli.main(prog_name="appstatsd", standalone_mode=False)
        return result if isinstance(result, int) else exits.OK
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return exits.WRONG
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "appstatsd"
        return _say(f"{error.format_message()} (see `{command} --help`)", exits.WRONG)
    except click.Abort:
        return _say("interrupted", exits.INTERRUPTED)
    except AppstatsdError as error:
        return _say(str(error), exits.status_of(error))
    except Exception as error:  # The main thread's outermost frame.
        return _say(
            f"this is a bug, please report it: {type(error).__name__} at {_place(error)}: {error}", exits.FAILED
        )


def _say(text: str, status: int) -> int:
    import click

    click.echo(f"appstatsd: {' '.join(text.split())}", err=True)
    return status


def _place(error: Exception) -> str:
    """Where in the code it arose."""
    import traceback
    from pathlib import Path

    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _hide_password() -> None:
    """Start anew with a database URL out of the process list, where everybody could read its password."""
    place = _place_of_url(sys.argv)
    if place is None:
        return
    before, url = place
    hidden = os.environ.pop(_HIDDEN_URL, None)
    if hidden is not None:
        sys.argv[before] = sys.argv[before].removesuffix("***") + hidden
    elif _LIKE_A_PASSWORD.search(url):
        own = len(sys.orig_argv) - len(sys.argv)
        arguments = list(sys.orig_argv)
        arguments[own + before] = arguments[own + before].removesuffix(url) + "***"
        os.execve(sys.executable, arguments, {**os.environ, _HIDDEN_URL: url})  # noqa: S606


def _place_of_url(arguments: Sequence[str]) -> tuple[int, str] | None:
    """Which argument holds --database-url's value, and the value; the last one, as it is what counts."""
    found = None
    for place, argument in enumerate(arguments):
        if argument.startswith("--database-url="):
            found = place, argument.removeprefix("--database-url=")
        elif argument == "--database-url" and place + 1 < len(arguments):
            found = place + 1, arguments[place + 1]
    return found
