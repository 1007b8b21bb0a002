"""Which certificates does a new connection meet?

Those that are in the files at that moment, so that they can be replaced while the daemon runs. Invariant: files that do
not serve change nothing; whoever is connected stays so.
"""

from __future__ import annotations

import threading

import grpc
import structlog

from appstatsd import certificates
from appstatsd.certificates import CertificatesUnfit, Pems
from appstatsd.settings import Tls


class Certificates:
    """The certificates in force; asked by gRPC's threads at each connection."""

    def __init__(self, tls: Tls) -> None:
        """Read the files.

        Raises:
            CertificatesUnfit: they do not serve.
        """
        self._tls = tls
        self._log = structlog.get_logger("appstatsd.ingest")
        self._lock = threading.Lock()  # protects what follows
        self._in_force = certificates.read(tls)
        self._wrong = ""

    def look(self) -> Pems:
        """Look at the files; what is in force now. Says once what is wrong with them, and when they are taken."""
        with self._lock:
            try:
                found = certificates.read(self._tls)
            except CertificatesUnfit as error:
                if str(error) != self._wrong:
                    self._wrong = str(error)
                    self._log.error(
                        "The TLS certificates are not reloaded; those in force stay",
                        setting=error.setting,
                        path=str(getattr(self._tls, error.setting.removeprefix("tls-").replace("-", "_"))),
                        error=self._wrong,
                    )
                return self._in_force
            self._wrong = ""
            if found != self._in_force:
                self._in_force = found
                self._log.info("The TLS certificates are reloaded", cert=str(self._tls.cert))
            return self._in_force

    def credentials(self) -> grpc.ServerCredentials:
        """For one port: it takes clients that have a certificate alone, and looks at the files before each handshake."""
        given = self.look()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            found = self.look()
            if found == given:
                return None
            given = found
            return _configuration(found)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given),
            fetch,  # type: ignore[arg-type]  # the stubs do not know that None means no change
            require_client_authentication=True,
        )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.cert)], root_certificates=pems.client_ca)
