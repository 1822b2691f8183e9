"""docs/operations.md and docs/scale-out.md: every command works, every table is what was measured."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.settings import load_settings as load_cloud
from edge.settings import load_settings as load_edge

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = ("operations.md", "scale-out.md")
OPTIONS = {  # words of tools that are not installed here: what the pages use of them
    "docker": {"compose", "up", "--build", "--detach", "--wait"},
    "systemctl": {"daemon-reload", "enable", "--now"},
    "kubectl": {"apply", "-f", "-n", "patch", "deployment", "--patch-file"},
    "ray": {"start", "--head"},
    "serve": {"deploy"},
    "apt-get": {"install", "--no-install-recommends"},
    "install": {"-m", "644"},
    "pip": {"install", "-c"},
    "python3": {"-m", "venv", "--system-site-packages"},
    "systemd-sysusers": set(),
    "promtool": {"check", "test", "rules"},
}
HOME = "/opt/splitcodec"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every line in a shell block."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                yield page, shlex.split(line)


def tool(words: list[str]) -> str:
    return words[0].rpartition("/")[2]


COMMANDS = [pytest.param(words, id=f"{page}:{' '.join(words)}"[:90]) for page, words in commands()]


@pytest.mark.parametrize("words", COMMANDS)
def test_files_and_flags_of_every_command_exist(words: list[str]) -> None:
    name, rest = tool(words), words[1:]
    if name in ("splitcodec-edge", "splitcodec-cloud"):
        load = load_edge if name == "splitcodec-edge" else load_cloud
        load(rest)
        return
    if name == "splitcodec":
        return  # run below
    for word in rest:
        if word.startswith("deploy/"):
            assert (ROOT / word).is_file()
        elif word.startswith(".["):
            extras = set(word[2:-1].split(","))
            text = (ROOT / "pyproject.toml").read_text()
            assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in extras)
        elif not word.startswith(("/etc/", HOME)) and not word.startswith(("splitcodec", "python3-")):
            assert word in OPTIONS[name], f"{word} of {name} is not known to this test"


def test_units_and_objects_that_commands_name_exist() -> None:
    for _, words in commands():
        if tool(words) == "systemctl" and words[1] == "enable":
            assert (ROOT / "deploy" / "systemd" / f"{words[-1]}.service").is_file()
        if tool(words) == "kubectl" and "patch" in words:
            namespace, name = words[words.index("-n") + 1], words[words.index("deployment") + 1]
            text = (ROOT / "deploy" / "k8s" / "cloud.yaml").read_text()
            assert f"kind: Deployment\nmetadata:\n  name: {name}\n  namespace: {namespace}\n" in text


@pytest.mark.slow
def test_start_block_starts_both_and_doctor_then_finds_nothing_wrong(tmp_path: Path) -> None:
    """The services with the documented flags, and ports and folders of this test's own; then the doctor."""
    from splitcodec.launch import running_services

    with running_services(tmp_path, "default", "ort-cpu") as services:
        target = f"127.0.0.1:{services.cloud.ports['grpc_port']}"
        (doctor,) = [words for page, words in commands() if "doctor" in words and "127.0.0.1:50051" in words]
        told = [word.replace("127.0.0.1:50051", target) for word in doctor[1:]]
        told += ["--port=0", f"--state-dir={tmp_path / 'edge'}", "--spool-bytes=1000000"]
        done = subprocess.run(
            [sys.executable, "-m", "splitcodec.cli", *told], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("all is well\n")


@pytest.mark.slow
def test_every_other_splitcodec_command_runs() -> None:
    ran = 0
    for _, words in commands():
        if tool(words) == "splitcodec" and "doctor" not in words:
            done = subprocess.run(
                [sys.executable, "-m", "splitcodec.cli", *words[1:]],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            ran += 1
    assert ran


def sizing_block() -> str:
    report = json.loads((DOCS / "results" / "sizing.json").read_text())
    rows = [
        f"| {row['task']} | {row['rate']:g} | {row['edge_frames_per_s']:.1f} "
        f"| {row['cloud_frames_per_s']:.1f} | {row['bytes_per_frame']:.0f} "
        f"| {row['bytes_per_camera_day'] / 1e6:.0f} |"
        for row in report["rows"]
    ]
    return "\n".join(
        [
            f"What one core of {report['provenance']['cpu']} does alone, services left out, with one thread: "
            "picture to bitstream on",
            "the edge, bitstream to the tail's outputs in the cloud. A camera at n frames per second needs n "
            "times the bytes.",
            "",
            "| task | rate | edge frames/s and core | cloud frames/s and core | bytes a frame "
            "| MB a day at 1 frame/s |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Source: [sizing.json](results/sizing.json), `{report['command']}`, "
            f"codec `{report['codec_digest'][:16]}`.",
        ]
    )


def serve_block() -> str:
    report = json.loads((DOCS / "results" / "serve.json").read_text())
    rows = [
        f"| {row['name']} | {row['frames_per_s']:.1f} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} "
        f"| {row['networks_ms']:.1f} | {row['overhead_ms']:.1f} | {row['engine_ms']:+.1f} |"
        for row in report["figures"]
    ]
    same = "All gave the same answers byte for byte." if report["same_answers"] else "The answers differ."
    return "\n".join(
        [
            f"The same {report['frames']} frames from {report['clients']} clients, each way on the same "
            f"{report['provenance']['cores']} cores of {report['provenance']['cpu']},",
            f"client included. Networks, overhead (gRPC, queues, database) and engine (what it adds to one "
            f"process) are of a frame alone. {same}",
            "",
            "| way | frames/s | p50 ms | p99 ms | networks ms | overhead ms | engine ms |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "On the cores of one machine Ray only costs; it pays when there are more machines.",
            "",
            f"Source: [serve.json](results/serve.json), `{report['command']}`, "
            f"codec `{report['codec_digest'][:16]}`.",
        ]
    )


@pytest.mark.parametrize(
    ("page", "name", "block"),
    [("operations.md", "sizing", sizing_block), ("scale-out.md", "serve", serve_block)],
    ids=["sizing", "serve"],
)
def test_table_is_that_of_the_report(page: str, name: str, block, request: pytest.FixtureRequest) -> None:
    """`pytest --regen` writes it anew after `splitcodec bench sizing|serve --json docs/results/...`."""
    path = DOCS / page
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    head, _, rest = path.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    wanted = f"{head}{begin}{block()}\n{end}{tail}"
    if request.config.getoption("--regen"):
        path.write_text(wanted)
    assert path.read_text() == wanted


def test_reports_are_of_the_pack_that_ships(default_pack) -> None:
    for name in ("sizing", "serve"):
        report = json.loads((DOCS / "results" / f"{name}.json").read_text())
        assert report["codec_digest"] == default_pack.codec_digest, f"run splitcodec bench {name} again"
        assert os.sep not in report["command"].replace(" / ", "")
