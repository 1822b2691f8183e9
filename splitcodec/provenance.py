"""What a measured number must carry to be believed: commit, machine, versions, date."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import splitcodec

MEASURED_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "pillow", "simplejpeg", "constriction")


@dataclass(frozen=True)
class RunOrigin:
    """Where and with what a measurement ran.

    commit: the source tree's commit, `+changes` appended if it had uncommitted ones, or `splitcodec X.Y.Z`
    where the library lies outside its repository; created: UTC, ISO 8601; cores: those this process may use.
    """

    commit: str
    created: str
    cpu: str
    cores: int
    python: str
    packages: dict[str, str]


def run_origin() -> RunOrigin:
    """Of this process, now."""
    return RunOrigin(
        commit=_commit(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cpu=cpu_name(),
        cores=usable_cores(),
        python=platform.python_version(),
        packages={name: found for name in MEASURED_PACKAGES if (found := _version(name))},
    )


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit() -> str:
    """The commit of the repository this package lies in, if it is its own repository."""
    root = Path(splitcodec.__file__).resolve().parent.parent
    head = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else ""
    if not head:
        return f"splitcodec {splitcodec.__version__}"
    return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command, empty if it cannot run."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
