"""Settings of secured connections: the node's own port, its peers, the syslog server."""

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """A part of the configuration: no key that is not known, no number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerTls(Settings):
    """TLS of the node's own port (PS3.15 B.12)."""

    certificate: Path
    key: Path
    ca: Path | None = None
    require_client_certificate: bool = True

    @model_validator(mode="after")
    def _needs_an_authority(self) -> "ServerTls":
        if self.require_client_certificate and self.ca is None:
            # Without it any certificate would do that one of the system's public authorities has issued.
            raise ValueError("ca has to name the authority whose certificates the peers have")
        return self

    def context(self) -> ssl.SSLContext:
        """The server's side; raises OSError (ssl.SSLError among them) if a file can not be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = ssl.CERT_REQUIRED if self.require_client_certificate else ssl.CERT_NONE
        return context


class PeerTls(Settings):
    """TLS towards one peer."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """The client's side; raises OSError (ssl.SSLError among them) if a file can not be used."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


class Syslog(Settings):
    """The audit repository: where audit messages go (PS3.15 A.6 and A.7)."""

    host: str
    port: Port
    transport: Literal["udp", "tcp", "tls"] = "tls"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _needs_an_authority(self) -> "Syslog":
        if self.transport == "tls" and self.ca is None:
            raise ValueError("ca has to name the authority whose certificate the syslog server has")
        if self.transport != "tls" and (self.ca or self.certificate or self.key):
            raise ValueError("ca, certificate and key are for transport: tls")
        return self

    def context(self) -> ssl.SSLContext:
        """The client's side; raises OSError (ssl.SSLError among them) if a file can not be used."""
        assert self.ca is not None
        return PeerTls(ca=self.ca, certificate=self.certificate, key=self.key).context()
