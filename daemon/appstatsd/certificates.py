"""Do the files of mutual TLS serve, and what is in them?

Invariant: what `read` returns was there as a whole, the key to the certificate included; files that are just being
replaced are not mixed.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from appstatsd.errors import AppstatsdError
from appstatsd.settings import Tls


@dataclass(frozen=True, slots=True)
class Pems:
    """What is in the files."""

    cert: bytes
    key: bytes
    client_ca: bytes


class CertificatesUnfit(AppstatsdError):
    """The files do not serve; the text says what is wrong with the one that `setting` names."""

    def __init__(self, setting: str, wrong: str) -> None:
        super().__init__(wrong)
        self.setting = setting


def read(tls: Tls) -> Pems:
    """Read the files.

    Raises:
        CertificatesUnfit: one of them cannot be read, is no PEM of its kind, or does not fit the others.
    """
    pems = _contents(tls)
    for setting, path in (("tls-cert", tls.cert), ("tls-client-ca", tls.client_ca)):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
        except OSError:
            raise CertificatesUnfit(setting, "allowed is a file with one or more PEM certificates") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key, password=lambda: b"")
    except (OSError, ValueError):
        wrong = f"it must be the unencrypted PEM key of the first certificate in tls-cert ({tls.cert}), also PEM"
        raise CertificatesUnfit("tls-key", wrong) from None
    if _contents(tls) != pems:
        raise CertificatesUnfit("tls-cert", "the files of tls-cert, tls-key and tls-client-ca are just being replaced")
    return pems


def _contents(tls: Tls) -> Pems:
    return Pems(_content("tls-cert", tls.cert), _content("tls-key", tls.key), _content("tls-client-ca", tls.client_ca))


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificatesUnfit(setting, f"the file cannot be read: {error.strerror}") from None
