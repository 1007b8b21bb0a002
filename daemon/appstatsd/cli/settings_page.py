"""The table of settings for the documentation: `python -m appstatsd.cli.settings_page FILE` puts it into a page anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from appstatsd.settings import TABLE

BEGIN: Final = "<!-- settings: made by `python -m appstatsd.cli.settings_page`, not by hand -->"
END: Final = "<!-- end of settings -->"


def table() -> str:
    """All settings as Markdown, with one table for each heading."""
    lines: list[str] = []
    for row in TABLE:
        if row.heading:
            lines += ["", f"### {row.heading}", "", "| flag | allowed | default | what |", "| --- | --- | --- | --- |"]
        flag = f"`{row.flag}`" + (" (repeatable)" if row.repeatable else "") + (" (reloads)" if row.reloads else "")
        default = row.default_is or (f"`{row.default}`" if row.default else "none")
        lines.append(f"| {flag} | {row.kind.allowed} | {default} | {row.help} |")
    return "\n".join([*lines[1:], ""])


def renewed(page: str) -> str:
    """The page with the table between its marks made anew."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{table()}{end}{after}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(renewed(path.read_text()))
