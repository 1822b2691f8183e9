"""One target under atheris, which counts the branches of library and services: TARGET INPUTS WORK SEED.

A process of its own, because the parsers must be imported for the first time while they are instrumented.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Final

import atheris

INPUT_TIMEOUT_S: Final = 5
MEMORY_MIB: Final = 512
"""Address space the process may take on top of what it starts with."""


def main() -> None:
    """Never returns: libFuzzer ends the process, with status 0 if there was no finding."""
    name, inputs, work, seed = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    with atheris.instrument_imports(include=["splitcodec", "cloud", "edge"], enable_loader_override=False):
        from fuzz.targets import TARGETS

        target = next(target for target in TARGETS if target.name == name)
        one = target.build()
    corpus, crashes = work / "corpus" / name, work / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data[: target.max_bytes])
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_MIB * 2**20,) * 2)
    flags = {
        "runs": inputs,
        "seed": seed,
        "max_len": target.max_bytes,
        "timeout": INPUT_TIMEOUT_S,
        "rss_limit_mb": 0,  # RLIMIT_AS is the limit
        "artifact_prefix": f"{crashes}/{name}-",
        "print_final_stats": 1,
    }
    atheris.Setup([sys.argv[0], *(f"-{flag}={value}" for flag, value in flags.items()), str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
