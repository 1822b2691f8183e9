"""The README's curl command and Python client run as written against real services; its table is measured."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from splitcodec.demo import packaged_photos, services

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REPORT = ROOT / "docs" / "results" / "detect-coco-test.json"
ANCHORS = ("JPEG", "WebP", "AVIF", "HEVC")
EDGE, CLOUD = "127.0.0.1:8080", "127.0.0.1:50051"


@dataclass(frozen=True)
class Addresses:
    """Where the two services of this test run listen."""

    edge: str
    cloud: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with services(tmp_path_factory.mktemp("services"), "default") as edge:
        address = f"127.0.0.1:{edge.port}"
        ready = httpx.get(f"http://{address}/readyz").json()
        yield Addresses(address, ready["cloud"]["target"])


def _block(language: str, holding: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if holding in block]
    return str(found)


def _post_as_curl_would(command: str, edge: str, photo: bytes) -> dict[str, Any]:
    """Send what the documented curl command sends; only the address and the photo's bytes differ."""
    words = shlex.split(command)
    assert words[:2] == ["curl", "--data-binary"]
    assert words[2].startswith("@")
    assert words[3] == "-H"
    name, _, value = words[4].partition(": ")
    assert EDGE in words[5]
    answer = httpx.post(
        words[5].replace(EDGE, edge), content=photo, headers={name: value.replace("jpeg", "png")}, timeout=60
    )
    answer.raise_for_status()
    report: dict[str, Any] = answer.json()
    return report


@pytest.mark.slow
def test_documented_post_and_ten_line_client_work(running: Addresses) -> None:
    command = _block("sh", "curl").strip()
    report = _post_as_curl_would(command, running.edge, packaged_photos()[0].read_bytes())
    assert report["camera"] == "door"
    client = _block("python", "grpc")
    assert len([line for line in client.splitlines() if line]) <= 10
    done = subprocess.run(
        [sys.executable, "-c", client.replace(CLOUD, running.cloud)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == f"{report['seq']} {report['num_bytes']} bytes"
    assert lines[1:] == [f"  {found['label']} {found['score']:.2f}" for found in report["detections"]]


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _table(report: dict[str, Any]) -> str:
    """One line per rate of our codec, with the bytes each picture codec needs for the same mAP."""
    teacher = next(row for row in report["rows"] if row["codec"] == "teacher")
    data = f"{report['frames']} photos of COCO val2017, {report['boxes']} boxes"
    lines = [
        f"Real bytes on the wire, {data}; the uncompressed teacher reaches mAP {teacher['map']:.3f}.",
        "The last columns: bytes of that picture codec, at network size in front of the whole teacher,",
        "for the same mAP (`-`: outside what was measured).",
        "",
        f"| rate | bytes per frame | mAP | lost points (95 % interval) | {' | '.join(ANCHORS)} |",
        "|---|---|---|---|" + "---|" * len(ANCHORS),
    ]
    needed = {
        (entry["rate"], entry["anchor"].lower()): entry["anchor_bytes"] for entry in report["equal_accuracy"]
    }
    for row in report["rows"]:
        if row["codec"] != "splitcodec":
            continue
        interval = f"{_points(row['drop'])} ({_points(row['drop_low'])} to {_points(row['drop_high'])})"
        others = [needed[row["rate"], name.lower()] for name in ANCHORS]
        cells = [f"{row['rate']:g}", f"{row['bytes_per_frame']:.0f}", f"{row['map']:.3f}", interval]
        lines.append(
            f"| {' | '.join([*cells, *('-' if size is None else f'{size:.0f}' for size in others)])} |"
        )
    origin = report["provenance"]
    lines += [
        "",
        f"From [{REPORT.name}](docs/results/{REPORT.name}), made by `{report['command']}` at commit"
        f" {origin['commit'][:12]} on {origin['cpu']}, pack digest `{report['pack']['codec_digest'][:16]}`.",
    ]
    return "\n".join(lines)


def test_measured_table_is_the_report_that_is_checked_in(request: pytest.FixtureRequest) -> None:
    table = _table(json.loads(REPORT.read_text()))
    begin, end = "<!-- table:begin -->\n", "\n<!-- table:end -->"
    text = README.read_text()
    written = re.search(f"{begin}(.*?)\n?<!-- table:end -->", text, re.DOTALL)
    assert written
    if request.config.getoption("--regen"):
        README.write_text(text.replace(written[0], begin + table + end))
    else:
        assert written[1] == table, "run pytest --regen tests/test_project_readme.py and read the diff"


def test_report_is_of_the_pack_that_ships(default_pack: Any) -> None:
    assert json.loads(REPORT.read_text())["pack"]["codec_digest"] == default_pack.codec_digest
