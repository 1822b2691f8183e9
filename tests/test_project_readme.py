"""The README's curl command and Python client run as written against real services."""

from __future__ import annotations

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

from splitcodec.demo import services
from splitcodec.sample_photos import packaged_photos

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EDGE, CLOUD = "127.0.0.1:8080", "127.0.0.1:50051"


@dataclass(frozen=True)
class Addresses:
    """Where the two services of this test run listen."""

    edge: str
    cloud: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with services(tmp_path_factory.mktemp("services"), "default") as url:
        address = url.removeprefix("http://")
        ready = httpx.get(f"{url}/readyz").json()
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


@pytest.mark.slow
def test_documented_five_lines_encode_and_decode(tmp_path: Path) -> None:
    lines = [line for line in _block("python", "splitcodec.load").splitlines() if line]
    assert len(lines) == 5
    (tmp_path / "street.jpg").write_bytes(packaged_photos()[-1].read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    size, labels = done.stdout.splitlines()
    assert re.fullmatch(r"\d{4} bytes", size)
    assert "motorcycle" in labels
