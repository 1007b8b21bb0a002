"""`appstatsd version`: which version is this?"""

from __future__ import annotations

import click


@click.command
def version() -> int:
    """Print the version."""
    from importlib import metadata

    click.echo(f"appstatsd {metadata.version('appstatsd')}")
    return 0
