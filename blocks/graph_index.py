"""The graph index as a block."""

from __future__ import annotations

import socket
import ssl

from pydantic import Field, SecretStr

from blocks.checked_block import CheckedBlock
from bos_core.objects.errors import Finding, OptionError, ServiceError
from bos_core.objects.settings import Settings, bolt_server

DEFAULT_PORT = 7687
TIMEOUT_S = 5.0
_HELLO = bytes.fromhex("6060b017") + bytes.fromhex("00000405 00000004 00000003 00000000")
"""Bolt's handshake: the magic number and four proposals of versions (Bolt protocol, "Handshake")."""
_REMEDY = "start Neo4j or correct the URL"


class GraphIndex(CheckedBlock):
    """Where the graph of lineage and topology is: a Neo4j server reached over Bolt. Optional."""

    _block_type_name = "BOS graph index"
    _block_type_slug = "bos-graph-index"
    _description = "Neo4j server that keeps BOS's graph of tasks, data and grid elements. Optional."

    url: str = Field(title="Bolt URL", description="bolt://host:7687; bolt+s:// with TLS; neo4j:// for a cluster.")
    user: str = Field("neo4j", title="User")
    password: SecretStr = Field(SecretStr(""), title="Password")

    @classmethod
    def from_settings(cls, settings: Settings) -> GraphIndex:
        """Make the block of these settings, which name a server."""
        return cls(url=settings.graph_url, user=settings.graph_user, password=settings.graph_password)

    def settings(self, base: Settings) -> Settings:
        """Return `base` with this graph; raises OptionError for a bad URL."""
        graph = {"graph_url": self.url, "graph_user": self.user, "graph_password": self.password}
        return Settings.load(**{**dict(base), **graph})

    def check(self) -> None:
        """Connect, greet and log in."""
        from bos_core.index.graph_neo4j import Neo4jGraph

        self._check_greeting()
        Neo4jGraph(self.url, self.user, self.password.get_secret_value()).close()

    def _check_greeting(self) -> None:
        """Say more exactly than the driver why a server cannot be reached, and sooner."""
        try:
            parts = bolt_server(self.url)
        except ValueError as error:
            raise OptionError((Finding("graph index", (), str(error), "use bolt://host:7687", "url"),)) from None
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        shown = f"{parts.scheme}://{host}:{port}"
        try:
            answer = _greet(host, port, parts.scheme.partition("+")[2])
        except ssl.SSLError as error:
            raise ServiceError(f"cannot reach {shown}: TLS failed ({error.reason}); {_REMEDY}") from None
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise ServiceError(f"cannot reach {shown}: {problem}; {_REMEDY}") from None
        if len(answer) != 4 or answer == bytes(4):
            raise ServiceError(f"{shown} answers, but not as a Bolt server; {_REMEDY}")


def _greet(host: str, port: int, security: str) -> bytes:
    with socket.create_connection((host, port), TIMEOUT_S) as plain:
        if not security:
            return _exchange(plain)
        context = ssl.create_default_context()
        if security == "ssc":  # a self-signed certificate, by the user's own choice
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=host) as secure:
            return _exchange(secure)


def _exchange(connection: socket.socket) -> bytes:
    connection.sendall(_HELLO)
    answer = b""
    while len(answer) < 4:
        piece = connection.recv(4 - len(answer))
        if not piece:
            break
        answer += piece
    return answer
