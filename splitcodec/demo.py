"""`splitcodec demo`: both services on free loopback ports, real photos through them, a table and pictures.

The services run as the processes a user would start; photos travel over HTTP to the edge, as features to
the cloud. They come with scikit-image and hold objects of COCO classes.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from PIL import Image

from splitcodec.errors import CloudRefused, DatasetError, InvalidRequest
from splitcodec.frame import read_picture, resize
from splitcodec.launch import running_services
from splitcodec.placement import fit_size
from splitcodec.sample_photos import packaged_photos

REQUEST_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.1
JPEG_QUALITIES: Final = (50, 75)
SHOWN: Final = 4  # labels per photo in the table
_TYPES: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_FAILED: Final = 1
_HEADINGS: Final = ("photo", "found", "sent B", "JPEG50 B", "JPEG75 B", "edge ms", "cloud ms")


@dataclass(frozen=True)
class Outcome:
    """One photo: labels with scores (best first), bytes sent, bytes as JPEG at network size, milliseconds."""

    name: str
    found: tuple[tuple[str, float], ...]
    sent_bytes: int
    jpeg_bytes: tuple[int, int]
    edge_ms: float
    cloud_ms: float
    overlay: Path


def demo_command(
    image: Annotated[list[Path] | None, typer.Option(help="A further photo; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the photos with their detections drawn in.")] = Path(
        "demo-out"
    ),
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    rate: Annotated[float | None, typer.Option(help="Rate point; by default the edge's own.")] = None,
) -> None:
    """Send real photos through both services; print what was found and what it cost, draw pictures."""
    photos = [*packaged_photos(), *(image or [])]
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="splitcodec-demo-") as folder,
        services(Path(folder), pack) as edge,
    ):
        typer.echo(f"edge on http://127.0.0.1:{edge.port}, {len(photos)} photos")
        edge.post(photos[0], rate)  # the first frame of a process is slower; it is not counted
        for photo, overlay in zip(photos, overlay_paths(photos, out), strict=True):
            outcomes.append(edge.show(photo, overlay, rate))
    typer.echo("\n".join(table(outcomes)))
    typer.echo(f"pictures with boxes: {', '.join(str(outcome.overlay) for outcome in outcomes)}")
    if missed := [outcome.name for outcome in outcomes if not outcome.found]:
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


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The outcomes as aligned lines of text, headings first."""
    rows = [_HEADINGS, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        texts = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*texts, *numbers]))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last line of a demo that worked."""
    sent = sum(outcome.sent_bytes for outcome in outcomes)
    jpeg75 = sum(outcome.jpeg_bytes[1] for outcome in outcomes)
    found = sum(len(outcome.found) for outcome in outcomes)
    return f"demo ok: frames={len(outcomes)} sent_bytes={sent} jpeg75_bytes={jpeg75} detections={found}"


def jpeg_sizes(data: bytes, height: int, width: int) -> tuple[int, int]:
    """Bytes of a picture file's JPEGs at the qualities of JPEG_QUALITIES, scaled to fit height x width."""
    rgb = read_picture(data)
    small = Image.fromarray(resize(rgb, *fit_size(rgb.shape[0], rgb.shape[1], height, width)))
    sizes = []
    for quality in JPEG_QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
        sizes.append(buffer.tell())
    return sizes[0], sizes[1]


@dataclass(frozen=True)
class EdgeClient:
    """HTTP calls to an edge on this machine."""

    port: int

    def show(self, photo: Path, overlay: Path, rate: float | None) -> Outcome:
        """Post a photo, write its overlay, and say what came back. Errors as for `post`."""
        report = self.post(photo, rate)
        overlay.parent.mkdir(parents=True, exist_ok=True)
        overlay.write_bytes(self._call("GET", f"/v1/frames/{report['id']}/overlay.jpg"))
        timings = report["timings"]
        return Outcome(
            name=photo.name,
            found=tuple((item["label"], item["score"]) for item in report["detections"]),
            sent_bytes=report["num_bytes"],
            jpeg_bytes=jpeg_sizes(_read(photo), report["network_height"], report["network_width"]),
            edge_ms=1000 * sum(timings["edge"].values()),
            cloud_ms=1000 * sum(timings["cloud"].values()),
            overlay=overlay,
        )

    def post(self, photo: Path, rate: float | None) -> dict[str, Any]:
        """The edge's report on a photo. DatasetError, or InvalidRequest or CloudRefused as the edge said."""
        path = "/v1/frames?camera=demo" + ("" if rate is None else f"&rate={rate}")
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


def _row(outcome: Outcome) -> tuple[str, ...]:
    found = ", ".join(f"{label} {score:.2f}" for label, score in outcome.found[:SHOWN]) or "nothing"
    if len(outcome.found) > SHOWN:
        found += f", {len(outcome.found) - SHOWN} more"
    sizes = (outcome.sent_bytes, *outcome.jpeg_bytes)
    times = (outcome.edge_ms, outcome.cloud_ms)
    return (outcome.name, found, *(f"{size}" for size in sizes), *(f"{time_ms:.1f}" for time_ms in times))


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise DatasetError(f"photo {photo} cannot be read ({error.strerror}); check --image") from error
