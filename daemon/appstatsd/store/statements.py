"""How does SQL get from its files to the database? As text, complete for the tables that are there.

Invariant: a file holds all statements of its purpose. A line that ends in `--if A !B` stands only where the table has
the column A and has no column B; whole lines of comment are for the reader of the file and are not sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("appstatsd.store") / "sql"


def statement(name: str, columns: Collection[str] = (), **values: int | str) -> str:
    """The text of `sql/NAME.sql` for a table with these optional columns, `{...}` replaced by `values`.

    Values come from this program, never from a client: numbers, and names and expressions that stand in its own files.
    """
    lines = []
    for line in (_FOLDER / f"{name}.sql").read_text(encoding="utf-8").splitlines():
        text, _, conditions = line.partition("--if ")
        if text.lstrip().startswith("--") or not all(_holds(word, columns) for word in conditions.split()):
            continue
        lines.append(text.rstrip())
    whole = "\n".join(lines)
    for key, value in values.items():
        whole = whole.replace("{" + key + "}", str(value))
    return whole


def _holds(condition: str, columns: Collection[str]) -> bool:
    return condition[1:] not in columns if condition.startswith("!") else condition in columns


def migrations(table: str) -> Iterator[tuple[int, str]]:
    """Number and name of each migration of a table, in order; `statement(f"migrations/{table}/{name}")` is its text."""
    for name in sorted(file.name for file in (_FOLDER / "migrations" / table).iterdir()):
        stem = name.removesuffix(".sql")
        yield int(stem.partition("_")[0]), stem
