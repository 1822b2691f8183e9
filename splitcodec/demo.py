"""`splitcodec demo`: both services on free loopback ports, real photos through them, a table and pictures.

The services run as the processes a user would start; photos travel over HTTP to the edge, as features to
the cloud. They come with scikit-image and hold objects of COCO classes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from splitcodec.demo_show import Outcome, found_in, jpeg_sizes, side_by_side, summary, table
from splitcodec.errors import CloudRefused, DatasetError, InvalidRequest
from splitcodec.launch import running_services
from splitcodec.packs import load_pack
from splitcodec.sample_photos import packaged_photos

REQUEST_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.1
_TYPES: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
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
        services(Path(folder), pack) as edge,
    ):
        typer.echo(f"edge on http://127.0.0.1:{edge.port}, {len(photos)} photos")
        for task in tasks:
            edge.post(photos[0], task, rate)  # the first frame of a task is slower; it is not counted
        for photo, picture in zip(photos, pictures, strict=True):
            answers = [edge.show(photo, task, rate) for task in tasks]
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


@dataclass(frozen=True)
class EdgeClient:
    """HTTP calls to an edge on this machine."""

    port: int

    def show(self, photo: Path, task: str, rate: float | None) -> Outcome:
        """Post a photo for a task, fetch its overlay, and say what came back. Errors as for `post`."""
        report = self.post(photo, task, rate)
        timings = report["timings"]
        return Outcome(
            name=photo.name,
            task=task,
            found=found_in(report),
            sent_bytes=report["num_bytes"],
            jpeg_bytes=jpeg_sizes(_read(photo), report["network_height"], report["network_width"]),
            edge_ms=1000 * sum(timings["edge"].values()),
            cloud_ms=1000 * sum(timings["cloud"].values()),
            overlay=self._call("GET", f"/v1/frames/{report['id']}/overlay.jpg"),
        )

    def post(self, photo: Path, task: str, rate: float | None) -> dict[str, Any]:
        """The edge's report on a photo. DatasetError, or InvalidRequest or CloudRefused as the edge said."""
        path = f"/v1/frames?camera=demo&task={task}" + ("" if rate is None else f"&rate={rate}")
        kind = _TYPES.get(photo.suffix.lower(), "application/octet-stream")
        report: dict[str, Any] = json.loads(self._call("POST", path, _read(photo), {"Content-Type": kind}))
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while report["state"] != "answered":  # too slow for the deadline: it comes later
            if report["state"] == "quarantined" or time.monotonic() > deadline:
                raise CloudRefused(f"{photo.name} is {report['state']}: {report['reason']}")
            time.sleep(POLL_S)
            report = json.loads(self._call("GET", f"/v1/frames/{report['id']}"))
        return report

    def _call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * REQUEST_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            data = response.read()
        if response.status not in (http.client.OK, http.client.ACCEPTED):
            problem = json.loads(data)
            said = f"{method} {path}: {response.status} {problem['detail']} ({problem['remedy']})"
            raise InvalidRequest(said) if response.status < 500 else CloudRefused(said)
        return data


@contextlib.contextmanager
def services(folder: Path, pack: str) -> Iterator[EdgeClient]:
    """A cloud and an edge in front of it, as processes on free loopback ports; they end with the block.

    folder: for their state. RuntimeUnavailable: one of them did not start.
    """
    deadline = f"--deadline-s={REQUEST_TIMEOUT_S:.0f}"
    with running_services(folder, pack, "auto", [deadline]) as running:
        yield EdgeClient(running.edge.ports["http_port"])


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise DatasetError(f"photo {photo} cannot be read ({error.strerror}); check --image") from error
