"""`splitcodec frigate-detector`: Frigate's detector of type zmq, with a splitcodec cloud behind it."""

from __future__ import annotations

import platform
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import typer

from splitcodec.errors import SettingsError
from splitcodec.extras import needing
from splitcodec.service import is_loopback, log_to_stderr

if TYPE_CHECKING:
    import zmq

    from splitcodec.frigate import FrigateDetector

MAX_MESSAGE_BYTES: Final = 64 * 2**20
LOOK_MS: Final = 200  # between two looks at whether to stop


def frigate_command(
    cloud: Annotated[str, typer.Option(help="host:port of the cloud service.")],
    listen: Annotated[str, typer.Option(help="Where Frigate connects: tcp://HOST:PORT or ipc://FILE.")] = (
        "tcp://127.0.0.1:5555"
    ),
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    task: Annotated[str, typer.Option(help="A task of the pack that finds boxes.")] = "detect",
    rate: Annotated[float | None, typer.Option(help="Rate point; by default mid-range.")] = None,
    engine: Annotated[str, typer.Option(help="Inference engine; see `splitcodec doctor`.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each graph.")] = 2,
    deadline_s: Annotated[float, typer.Option(min=0.01, help="Seconds the cloud gets for a picture.")] = 1.0,
    device: Annotated[str | None, typer.Option(help="Name of this device; by default the host's.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM authorities of the cloud; implies TLS.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen where others can connect.")] = False,
) -> None:
    """Answer Frigate's detector of type `zmq` from a cloud; never nothing for a picture nobody looked at."""
    with needing("frigate,client,cpu"):
        import zmq  # noqa: F401

        from splitcodec.client.credentials import Credentials
        from splitcodec.frigate import FrigateDetector
        from splitcodec.frigate_cloud import CloudInfer
        from splitcodec.picture_codec import load

    check_address(listen, insecure=insecure)
    token = None if token_file is None else token_file.read_text(encoding="ascii").strip()
    name = re.sub(r"[^A-Za-z0-9._:-]", "-", device or f"frigate-{platform.node() or 'box'}")[:128]
    infer = CloudInfer(cloud, name, Credentials(token=token, ca=ca), deadline_s)
    codec = load(pack, engine, threads)
    codec.pack.task(task)
    log_to_stderr()
    serve(listen, FrigateDetector(codec, infer, task, rate))
    infer.close()


def check_address(listen: str, *, insecure: bool) -> None:
    """SettingsError: no tcp:// or ipc:// address, or one where anybody could connect."""
    parts = urlsplit(listen)
    if parts.scheme not in ("tcp", "ipc"):
        raise SettingsError(f"{listen} is no tcp:// or ipc:// address; give tcp://127.0.0.1:5555, say")
    if parts.scheme == "tcp" and not insecure and not is_loopback(parts.hostname or ""):
        raise SettingsError(
            f"{listen} can be reached from outside, and the protocol knows no password; bind a loopback "
            "address, or accept the risk with --insecure"
        )


def serve(listen: str, detector: FrigateDetector) -> None:
    """Until SIGTERM or SIGINT. SettingsError: the address cannot be bound."""
    import zmq

    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(True))
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        try:
            socket.bind(listen)
        except zmq.ZMQError as error:
            raise SettingsError(f"{listen} cannot be bound ({error}); choose another") from None
        typer.echo(f"listening on {_bound(socket)}")
        while not stopping:
            if socket.poll(LOOK_MS):
                socket.send_multipart(detector.reply(socket.recv_multipart()))


def _bound(socket: zmq.Socket[bytes]) -> str:
    import zmq

    place = socket.getsockopt(zmq.LAST_ENDPOINT)
    return place.decode().rstrip("\0") if isinstance(place, bytes) else str(place)
