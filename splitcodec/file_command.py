"""`splitcodec encode | decode | inspect`: one picture or one bitstream in a file, without any service."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from splitcodec.picture_codec import PictureCodec

PackPlace = Annotated[
    str, typer.Option(help="Pack folder or zip, or `default` for the one inside the library.")
]
Engine = Annotated[str, typer.Option(help="Engine of the float graphs: auto, ort-cpu, ...")]
BitstreamFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A bitstream, version 1.")]


def encode_command(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURE...",
            exists=True,
            dir_okay=False,
            help="JPEG, PNG or WebP; several are a still camera's, in order.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bitstream to write; a folder for several.")],
    task: Annotated[str, typer.Option(help="Task whose prompt bends the codec.")] = "detect",
    rate: Annotated[
        float, typer.Option(min=0, help="Rate point, 0 = fewest bytes; may lie between two.")
    ] = 1.0,
    map: Annotated[
        Path | None, typer.Option(help="PNG to write: the picture, dark where it was given few bits.")
    ] = None,
    pack: PackPlace = "default",
    engine: Engine = "auto",
) -> None:
    """Compress one picture as the edge does, or several of a camera that does not move."""
    from splitcodec.importance import importance_png, importance_stats
    from splitcodec.picture_codec import load

    codec = load(pack, engine)
    if len(pictures) > 1:
        return _encode_chain(codec, pictures, out, task, rate)
    encoded = codec.encode(pictures[0], task, rate)
    out.write_bytes(encoded.bitstream)
    height, width = encoded.canvas.pixels.shape[:2]
    typer.echo(
        f"{out}: {encoded.num_bytes} bytes, task {task}, rate {encoded.rate:g}, canvas {width}x{height}"
    )
    if encoded.importance is None:
        if map is not None:
            raise typer.BadParameter(
                f"the prompts of pack {codec.pack.name} select nothing", param_hint="--map"
            )
        return
    stats = importance_stats(encoded.importance)
    typer.echo(f"importance: mean {stats.mean:.3f}, spread {stats.spread:.3f}")
    if map is not None:
        map.write_bytes(importance_png(encoded.canvas, encoded.importance))
        typer.echo(f"wrote {map}")


def _encode_chain(codec: PictureCodec, pictures: Sequence[Path], out: Path, task: str, rate: float) -> None:
    """A file for each picture: a key frame, then frames that hold cells."""
    from splitcodec.still_camera import StillCameraEncoder

    out.mkdir(parents=True, exist_ok=True)
    sending = StillCameraEncoder(codec, task, rate)
    for number, picture in enumerate(pictures, 1):
        encoded = sending.encode(picture)
        place = out / f"{number:05d}.sc"
        place.write_bytes(encoded.bitstream)
        typer.echo(f"{place}: {encoded.num_bytes} bytes, {encoded.held:.0%} held")


def decode_command(
    bitstreams: Annotated[
        list[Path],
        typer.Argument(
            metavar="BITSTREAM...",
            exists=True,
            dir_okay=False,
            help="A bitstream; several are a chain, from its key frame on.",
        ),
    ],
    pack: PackPlace = "default",
    engine: Engine = "auto",
) -> None:
    """Answer bitstreams as the cloud does; the task's answers as JSON, a line each."""
    from splitcodec.picture_codec import load
    from splitcodec.still_camera import StillCameraDecoder

    receiving = StillCameraDecoder(load(pack, engine))
    for place in bitstreams:
        task, answer = receiving.answer(place.read_bytes())
        values = dataclasses.asdict(answer)  # type: ignore[call-overload]  # every answer is a dataclass
        typer.echo(json.dumps({"task": task, **values}))


def inspect_command(bitstream: BitstreamFile) -> None:
    """Print what a bitstream's header says; nothing is decoded and no pack is needed."""
    from splitcodec.bitstream import parse
    from splitcodec.wire.names import RATE_ONE

    data = bitstream.read_bytes()
    stream = parse(data)
    header = stream.header
    lines = {
        "bytes": f"{len(data)}: header {len(data) - len(stream.z) - len(stream.y)}, z {len(stream.z)}, "
        f"y {len(stream.y)}",
        "codec": header.codec_digest.hex(),
        "prompt": header.prompt_digest.hex(),
        "rate": f"{header.rate_fixed / RATE_ONE:g}",
        "picture": f"{header.source_width}x{header.source_height}",
        "canvas": f"{header.network_width}x{header.network_height}",
        "bpp": f"{8 * len(data) / (header.source_width * header.source_height):.4f}",
    }
    typer.echo("\n".join(f"{name:8}{value}" for name, value in lines.items()))
