"""What does one entry of an access log have to say, whoever wrote it?

The names of an app are looked for in these fields alone (naming.py), so it does not matter whether the entry came from
Envoy or out of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """Where names may stand in an entry; what it does not have is empty."""

    host: str = ""
    """The name that the caller asked for, with or without a port: the authority of a request, the server name of TLS."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the request that the log tells, by their names in lower case."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Custom tags."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Dynamic metadata: by filter a tree of mappings."""
    filter_state: Mapping[str, Any] = field(default_factory=dict)
    """Filter state: by name a text, or a tree of mappings."""
