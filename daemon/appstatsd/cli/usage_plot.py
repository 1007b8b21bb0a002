"""How does use become a picture? With matplotlib, which comes with the extra `plot` and is loaded only here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from appstatsd.cli.exits import Failed

if TYPE_CHECKING:
    from appstatsd.store.usage import Used

_SUFFIXES: Final = (".svg", ".png")
_LONGEST_KEY: Final = 48


def check(path: Path) -> None:
    """See whether there can be a picture, before the database is asked.

    Raises:
        click.UsageError: the file's name says another kind of picture.
        Failed: matplotlib is missing.
    """
    if path.suffix not in _SUFFIXES:
        raise click.UsageError(f"--plot {path} must end in {' or '.join(_SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise Failed("--plot needs matplotlib, which is not installed here: pip install 'appstatsd[plot]'")


def draw(found: Sequence[Used], by: str, since: datetime, until: datetime, path: Path) -> None:
    """Draw horizontal bars, the most used on top.

    Raises:
        Failed: the file cannot be written.
    """
    # Not pyplot, which looks for a display and keeps figures for ever.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    hours = [used.seconds / 3600 for used in found]
    keys = [_short(used.key) for used in found]
    # Names are not formulas, whatever dollars they hold; in SVG they stay text that can be searched.
    with rc_context({"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "appstatsd"}):
        figure = Figure(figsize=(9, 1.4 + 0.3 * max(1, len(found))), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(found)), hours, color="tab:cyan")
        axes.set_yticks(range(len(found)), keys)
        axes.invert_yaxis()
        axes.set_xlabel("hours in use")
        axes.set_title(f"Use by {by}, {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M %Z}")
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise Failed(f"{path} cannot be written: {error.strerror}") from None


def _short(key: str) -> str:
    return key if len(key) <= _LONGEST_KEY else f"{key[: _LONGEST_KEY - 1]}…"
