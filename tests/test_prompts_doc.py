"""docs/prompts.md: the transcript runs as written against a cloud and an edge, and they say what it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from waiting import PATIENCE_S, PAUSE_S

from splitcodec.bench.swap_versions import altered_prompt_pack
from splitcodec.client.prompt_admin import PromptAdmin
from splitcodec.demo import packaged_photos
from splitcodec.launch import running_services
from splitcodec.packs import Pack

PAGE = Path(__file__).resolve().parent.parent / "docs" / "prompts.md"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Running:
    """Both services, and a folder with the files that the transcript names."""

    edge: str
    cloud: str
    folder: Path

    def run(self, command: str) -> str:
        """What a documented command prints, with the addresses of this test in place of the documented."""
        command = command.replace("127.0.0.1:8080", self.edge).replace("127.0.0.1:50051", self.cloud)
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": search, "PYTHONPATH": str(PAGE.parent.parent)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, default_pack: Pack) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("work")
    with Image.open(packaged_photos()[0]) as photo:
        photo.convert("RGB").save(folder / "street.jpg", quality=90)
    (folder / "classify-2.zip").write_bytes(altered_prompt_pack(default_pack, "classify"))
    flags = ["--device=box-1", "--deadline-s=60"]
    with running_services(tmp_path_factory.mktemp("services"), "default", "auto", flags) as services:
        edge = f"127.0.0.1:{services.edge.ports['http_port']}"
        cloud = f"127.0.0.1:{services.cloud.ports['grpc_port']}"
        _wait_for_a_device(cloud)
        yield Running(edge, cloud, folder)


def _wait_for_a_device(cloud: str) -> None:
    end = time.monotonic() + PATIENCE_S
    with PromptAdmin(cloud) as admin:
        while not admin.devices():
            assert time.monotonic() < end, "no edge has told of its prompts"
            time.sleep(PAUSE_S)


def _steps() -> list[tuple[str, str]]:
    """Command and output, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", "".join(blocks), re.MULTILINE)


def test_the_transcript_is_what_happens(running: Running) -> None:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    steps = _steps()
    assert [command.split()[2] for command, _ in steps if command.startswith("splitcodec")] == [
        *("push", "activate", "rollback", "retire")
    ]
    for command, shown in steps:
        assert running.run(command) == shown, command
