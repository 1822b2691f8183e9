"""`splitcodec demo`: both services on free loopback ports, real photos through them, a table and pictures.

The services run as the processes a user would start; photos travel over HTTP to the edge, as features to
the cloud. They come with scikit-image and hold objects of COCO classes.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from splitcodec.client import EdgeClient
from splitcodec.demo_show import Outcome, jpeg_sizes, side_by_side, summary, table
from splitcodec.errors import DatasetError
from splitcodec.launch import running_services
from splitcodec.packs import load_pack
from splitcodec.sample_photos import packaged_photos

REQUEST_TIMEOUT_S: Final = 60.0
_FAILED: Final = 1


def demo_command(
    image: Annotated[list[Path] | None, typer.Option(help="A further photo; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the photos with their answers drawn in.")] = Path(
        "demo-out"
    ),
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    rate: Annotated[float | None, typer.Option(help="Rate point; by default the edge's own.")] = None,
) -> None:
    """Send real photos through both services for every task; print what was found and what it cost."""
    photos = [*packaged_photos(), *(image or [])]
    tasks = load_pack(pack).tasks
    outcomes: list[Outcome] = []
    pictures = overlay_paths(photos, out)
    with (
        tempfile.TemporaryDirectory(prefix="splitcodec-demo-") as folder,
        services(Path(folder), pack) as url,
        EdgeClient(url, deadline_s=2 * REQUEST_TIMEOUT_S) as edge,
    ):
        typer.echo(f"edge on {url}, {len(photos)} photos")
        for task in tasks:
            show(edge, photos[0], task, rate)  # the first frame of a task is slower; it is not counted
        for photo, picture in zip(photos, pictures, strict=True):
            answers = [show(edge, photo, task, rate) for task in tasks]
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(side_by_side(answers))
            outcomes += answers
    typer.echo("\n".join(table(outcomes)))
    typer.echo(f"pictures: {', '.join(str(picture) for picture in pictures)}")
    if missed := [one.name for one in outcomes if one.task == "detect" and not one.found]:
        typer.echo(f"demo failed: nothing was found in {', '.join(missed)}")
        raise typer.Exit(_FAILED)
    typer.echo(summary(outcomes))


def overlay_paths(photos: Sequence[Path], out: Path) -> list[Path]:
    """A picture in `out` for each photo: NAME.jpg, or NAME-2.jpg where two photos share a name."""
    paths: list[Path] = []
    for photo in photos:
        same = sum(photo.stem == other.stem for other in photos[: len(paths)])
        paths.append(out / (f"{photo.stem}.jpg" if same == 0 else f"{photo.stem}-{same + 1}.jpg"))
    return paths


def show(edge: EdgeClient, photo: Path, task: str, rate: float | None) -> Outcome:
    """Post a photo for a task, fetch its overlay, and say what came back.

    DatasetError: the photo cannot be read; what the edge refused as EdgeClient says.
    """
    data = _read(photo)
    report = edge.infer(data, task=task, camera="demo", rate=rate)
    return Outcome(
        name=photo.name,
        task=task,
        found=report.answer.headline,
        sent_bytes=report.num_bytes,
        jpeg_bytes=jpeg_sizes(data, report.network_height, report.network_width),
        edge_ms=1000 * sum(report.timings.edge.values()),
        cloud_ms=1000 * sum(report.timings.cloud.values()),
        overlay=edge.overlay(report.id),
    )


@contextlib.contextmanager
def services(folder: Path, pack: str) -> Iterator[str]:
    """The address of an edge with a cloud behind it: processes on loopback ports, ended with the block.

    folder: for their state. RuntimeUnavailable: one of them did not start.
    """
    deadline = f"--deadline-s={REQUEST_TIMEOUT_S:.0f}"
    with running_services(folder, pack, "auto", [deadline]) as running:
        yield f"http://127.0.0.1:{running.edge.ports['http_port']}"


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise DatasetError(f"photo {photo} cannot be read ({error.strerror}); check --image") from error
