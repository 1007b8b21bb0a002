"""What of a database URL may be shown, and what does it mean where it is silent?

A URL is whatever libpq takes: `postgresql://...` or `key=value ...`. No text that leaves this module for a log, a status
or an error holds a password.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
_USERINFO: Final = re.compile(r"(?s)^(postgres(?:ql)?://[^:@/?]*):.*@")
_SECRET_PARAMETER: Final = re.compile(rf"(?i)([?&])(?:{'|'.join(_SECRETS)})=[^&]*")
_UNREADABLE: Final = "(a database URL that cannot be read)"

_DEFAULTS: Final = {
    "application_name": "appstatsd",
    "target_session_attrs": "read-write",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    # A server that vanished without a word is noticed within about 30 s even where nobody waits for it.
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


def redacted(url: str) -> str:
    """The URL in its own form, without any password."""
    if url.startswith(("postgresql://", "postgres://")):
        # All from the first colon to the last @: a password that should have been percent-encoded goes as a whole.
        shown = _SECRET_PARAMETER.sub(r"\1", _USERINFO.sub(r"\1@", url))
        return re.sub(r"([?&])&+", r"\1", shown).rstrip("?&")
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return _UNREADABLE
    return make_conninfo(**{name: str(value) for name, value in parameters.items() if name not in _SECRETS})


def with_defaults(url: str, **others: str) -> str:
    """Connection parameters for libpq: the URL's own, and ours where it is silent; `others` in place of ours.

    Raises:
        ValueError: libpq cannot read the URL. The message does not repeat it.
    """
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError(
            "the database URL cannot be read; expected postgresql://USER@HOST:PORT/DATABASE, special characters of the"
            " password percent-encoded, or key=value parameters of libpq"
        ) from None
    return make_conninfo(**_DEFAULTS | others | {name: str(value) for name, value in parameters.items()})
