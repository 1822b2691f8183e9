"""An edge on a real port with certificates in files."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from edge_rig import EdgeRig, edge_rig
from identities import Identity, put

from edge.__main__ import http_config, server_tls
from edge.codec import Codec


class TlsFiles:
    """The PEM files of an edge, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, server: Identity, client_ca: Identity) -> None:
        put(self.folder / "c.pem", server.cert_pem)
        put(self.folder / "k.pem", server.key_pem)
        put(self.folder / "ca.pem", client_ca.cert_pem)

    def options(self, mutual: bool) -> dict[str, object]:
        ca = {"tls_client_ca": self.folder / "ca.pem"} if mutual else {}
        return {"tls_cert": self.folder / "c.pem", "tls_key": self.folder / "k.pem", **ca}

    def trusting(self, authority: Identity, client: Identity | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=authority.cert_pem.decode())
        if client is not None:
            pem = put(self.folder / "client.pem", client.key_pem + client.cert_pem)
            context.load_cert_chain(pem)
        return context


@asynccontextmanager
async def listening(codec: Codec, folder: Path, **options: object) -> AsyncIterator[tuple[EdgeRig, int]]:
    """An edge on a real port, served as the process serves it."""
    async with edge_rig(codec, folder / "state", **options) as rig:
        settings = rig.pipeline.settings
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(http_config(settings, rig.pipeline, server_tls(settings)))
        running = asyncio.create_task(server._serve([listener]))
        try:
            yield rig, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running
