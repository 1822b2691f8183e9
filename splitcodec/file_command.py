"""`splitcodec encode | decode | inspect`: one picture or one bitstream in a file, without any service."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

PackPlace = Annotated[
    str, typer.Option(help="Pack folder or zip, or `default` for the one inside the library.")
]
Engine = Annotated[str, typer.Option(help="Engine of the float graphs: auto, ort-cpu, ...")]
BitstreamFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A bitstream, version 1.")]


def encode_command(
    picture: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG or WebP.")],
    out: Annotated[Path, typer.Option(help="Bitstream to write.")],
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
    """Compress one picture as the edge does."""
    from splitcodec.importance import importance_png, importance_stats
    from splitcodec.picture_codec import load

    codec = load(pack, engine)
    encoded = codec.encode(picture, task, rate)
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


def decode_command(
    bitstream: BitstreamFile,
    pack: PackPlace = "default",
    engine: Engine = "auto",
) -> None:
    """Answer one bitstream as the cloud does; the task's answer as JSON."""
    from splitcodec.picture_codec import load

    task, answer = load(pack, engine).answer(bitstream.read_bytes())
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
