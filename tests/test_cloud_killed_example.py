"""The black-box script of docs/delivery.md: the cloud is killed under frames, each is seen once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_pack import write_tiny_pack

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_every_result_is_seen_once_though_the_cloud_is_killed(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "tiny")
    script = [sys.executable, str(ROOT / "docs" / "examples" / "cloud_killed.py")]
    done = subprocess.run(
        [*script, f"--pack={tmp_path / 'tiny'}", "--frames=20", "--kills=2"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"(\w+)=(\d+)", done.stdout))
    assert counts == {"accepted": "20", "seen": "20", "lost": "0", "duplicated": "0", "reordered": "0"}
