"""The HTTP server of /metrics: threads of its own, TLS on a public address, a token if settings say so."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from cloud.settings import CloudSettings
from splitcodec.certificates import ServerTls
from splitcodec.errors import AccessError, NotAuthenticated, SettingsError
from splitcodec.service import is_loopback
from splitcodec.tokens import TokenBook

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CLIENT_TIMEOUT_S: Final = 10.0
STOP_POLL_S: Final = 0.05  # between two looks whether to stop; the default delays each stop by half a second
HEALTH_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"


class MetricsServer:
    """Serves /metrics, /healthz and /readyz until it is stopped."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        """Takes what `start` has opened; call that instead."""
        self._server = server
        self._thread = thread
        self.port: int = server.server_port

    @classmethod
    def start(
        cls,
        settings: CloudSettings,
        registry: CollectorRegistry,
        tokens: TokenBook | None,
        ready: Callable[[], bool] = lambda: True,
    ) -> MetricsServer:
        """Bind and serve; tokens: None lets everybody read; ready: what /readyz tells.

        SettingsError: address taken, TLS unusable.
        """
        app = make_wsgi_app(registry)
        if tokens is not None and settings.protect_metrics:
            app = _asking(app, tokens)
        app = _with_health(app, ready)
        host, port = settings.metrics_host, settings.metrics_port
        tls = None
        if settings.tls_cert is not None and settings.tls_key is not None and not is_loopback(host):
            tls = ServerTls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        try:
            server = _Server(host, port, tls)
        except OSError as error:
            raise SettingsError(
                f"metrics cannot be served on {host}:{port}: {error}; "
                "choose another metrics_port (0 takes a free one)"
            ) from error
        server.set_app(app)
        thread = threading.Thread(
            target=server.serve_forever, args=(STOP_POLL_S,), name="metrics", daemon=True
        )
        thread.start()
        return cls(server, thread)

    def stop(self) -> None:
        """Close the socket and join the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S  # of every read and write, the TLS handshake included

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, tls: ServerTls | None) -> None:
        self._tls = tls
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """WSGIServer's own asks the name service for the host's name, which can take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = address = self.socket.getsockname()
        self.server_name, self.server_port = str(address[0]), int(address[1])
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, object]:
        """The handshake waits for the client's own thread: a silent client keeps nobody else waiting."""
        connection, address = self.socket.accept()
        if self._tls is None:
            return connection, address
        wrapped = self._tls.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off, or fails the handshake, is its own affair."""

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Closes the connection; there may be none any more."""
        try:
            super().shutdown_request(request)
        except (OSError, ssl.SSLError):
            return


def _with_health(app: WSGIApplication, ready: Callable[[], bool]) -> WSGIApplication:
    """`app`, and /healthz and /readyz for anybody: orchestrators have no token."""

    def routed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path not in (HEALTH_PATH, READY_PATH):
            return app(environ, start_response)
        well = path == HEALTH_PATH or ready()
        start_response(
            "200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")]
        )
        return [b'{"status": "ok"}\n' if well else b'{"status": "not ready"}\n']

    return routed


def _asking(app: WSGIApplication, tokens: TokenBook) -> WSGIApplication:
    """`app` for callers with a token of scope metrics."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            tokens.check(environ.get("HTTP_AUTHORIZATION")).require(["metrics"])
        except AccessError as error:
            known = not isinstance(error, NotAuthenticated)
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            if not known:
                headers.append(("WWW-Authenticate", 'Bearer realm="splitcodec-cloud"'))
            start_response("403 Forbidden" if known else "401 Unauthorized", headers)
            return [f"{error}\n".encode()]
        return app(environ, start_response)

    return guarded
