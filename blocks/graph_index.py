"""The graph index as a block."""

from __future__ import annotations

import socket
import ssl

from pydantic import Field, SecretStr

from blocks.checked_block import CheckedBlock
from bos_core.objects.errors import Finding, OptionError, ServiceError
from bos_core.objects.settings import bolt_server

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
    database: str = Field("neo4j", title="Database")

    def check(self) -> None:
        """Connect and greet; the answer must be a version of Bolt."""
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
