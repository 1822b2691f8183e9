"""`splitcodec quarantine list | replay`: the frames that an edge set aside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitcodec.connect_options import Ca, Cert, Key, credentials, token_in
from splitcodec.extras import needing

if TYPE_CHECKING:
    from splitcodec.client.answers import DeadLetter
    from splitcodec.client.edge_blocking import EdgeClient

quarantine_app = typer.Typer(
    no_args_is_help=True, help="Look at the frames that an edge set aside, and send them again."
)
Edge = Annotated[str, typer.Option(help="http(s)://host:port of the edge.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="SPLITCODEC_TOKEN", help="Bearer token, scope `results` to list, `frames` to replay."
    ),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the bearer token, in place of --token.")]

HEADER = ("id", "task", "bytes", "replayable", "reason")


@quarantine_app.command("list")
def quarantine_list(
    edge: Edge,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Frames at most, newest first.")] = 100,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Print the frames that are not sent any more: id, task, bytes, whether they can be replayed, and why."""
    with _edge(edge, token, token_file, ca, cert, key) as client:
        found = client.quarantine(limit)
    if found.frames:
        typer.echo("\n".join(_table(found.frames)))
    typer.echo(f"{len(found.frames)} of {found.total} frames that were set aside")


@quarantine_app.command("replay")
def quarantine_replay(
    edge: Edge,
    camera: Annotated[str | None, typer.Option(help="Only the frames of this camera.")] = None,
    frame: Annotated[
        str | None, typer.Option(help="Only the frame with this id, as `list` shows it.")
    ] = None,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Send them again under their own ids, once the reason is cured; by default all, 1000 at once."""
    with _edge(edge, token, token_file, ca, cert, key) as client:
        done = client.replay(camera, frame)
    for name in done.replayed:
        typer.echo(name)
    if frame is not None and not done.replayed:
        typer.echo(
            f"frame {frame} is not set aside, or is not whole; see `splitcodec quarantine list`", err=True
        )
        raise typer.Exit(1)
    typer.echo(f"replayed: {len(done.replayed)}, left to replay: {done.left}")


def _table(frames: Iterable[DeadLetter]) -> list[str]:
    """Columns as wide as what they hold; the reason, which may be long, comes last."""
    rows = [HEADER] + [
        (one.id, one.task or "?", str(one.num_bytes), "yes" if one.replayable else "no", _plain(one.reason))
        for one in frames
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _plain(text: str) -> str:
    """Words of another machine, without what moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _edge(
    edge: str,
    token: str | None,
    token_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
) -> EdgeClient:
    with needing("client"):
        from splitcodec.client.edge_blocking import EdgeClient
    said = token if token_file is None else token_in(token_file)
    return EdgeClient(edge, credentials=credentials(said, ca, cert, key))
