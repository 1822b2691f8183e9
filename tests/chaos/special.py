"""Scenarios that need more: a small disk, another clock, certificates, other packs, a damaged file."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from chaos import scenarios
from chaos.certificates import Authority
from chaos.ledger import FrameName, Verdict
from chaos.pack import write_holding_pack, write_older_pack
from chaos.world import Options, Plan, clock_env, world

SPOOL = "spool.sqlite3"
RESULTS = "results.sqlite3"
FLIPS = 8
ROWS = 0x0D  # first byte of such a page
PAGE = 4096  # bytes


class Unavailable(Exception):
    """This machine cannot do it; the message says why."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size. Unavailable: this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Unavailable("a small tmpfs needs the right to mount (root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_full(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.disk_full."""
    with (
        small_disk(folder / "disk", 8) as disk,
        world(folder, pack, plan, Options(state_dir=disk)) as made,
    ):
        scenarios.disk_full(made)
        return made.settle()


def cloud_disk_full(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.cloud_disk_full."""
    with (
        small_disk(folder / "disk", 8) as disk,
        world(folder, pack, plan, Options(data_dir=disk)) as made,
    ):
        scenarios.cloud_disk_full(made)
        return made.settle()


def clock_jumps(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.clock_jumps."""
    edge_env, edge_clock = clock_env(folder, "edge")
    cloud_env, cloud_clock = clock_env(folder, "cloud")
    with world(folder, pack, plan, Options(edge_env=edge_env, cloud_env=cloud_env)) as made:
        scenarios.clock_jumps(made, edge_clock, cloud_clock)
        return made.settle()


def older_pack(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.older_pack."""
    older = folder / "older"
    write_older_pack(older)
    # An edge that followed the cloud to the older prompt would have nothing to wait for.
    options = Options(edge_flags=("--no-follow-cloud-prompts",))
    with world(folder, pack, plan, options) as made:
        flags = made.cloud.flags
        before = [flag.replace(f"--packs={pack}", f"--packs={older}") for flag in flags]
        scenarios.older_pack(made, before, flags)
        return made.settle()


def certificate_expires(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.certificate_expires."""
    authority = Authority(folder / "tls")
    authority.issue("cloud", days=1)
    cloud_flags = (f"--tls-cert={authority.cert('cloud')}", f"--tls-key={authority.key('cloud')}")
    options = Options(
        edge_flags=(f"--cloud-ca={authority.ca}",),
        cloud_flags=cloud_flags,
        credentials=authority.credentials(),
    )
    with world(folder, pack, plan, options) as made:
        scenarios.certificate_expires(
            made, lambda: authority.issue("cloud", days=-1), lambda: authority.issue("cloud", days=1)
        )
        return made.settle()


def rows_rot(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.spool_damaged: a bit of every fifth row is flipped."""
    with world(folder, pack, plan) as made:
        scenarios.spool_damaged(made, _flip_rows)
        return made.settle()


def pages_torn(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.spool_damaged: pages in the middle of the file are overwritten."""
    with world(folder, pack, plan) as made:
        scenarios.spool_damaged(made, _tear_pages)
        return made.settle()


def still_cameras(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.still_cameras."""
    holding = folder / "holding"
    write_holding_pack(holding)
    with world(folder, holding, plan, Options(edge_flags=("--hold=on", "--key-interval-s=2"))) as made:
        scenarios.still_cameras(made)
        return made.settle()


def stores_rot(folder: Path, pack: Path, plan: Plan) -> Verdict:
    """See scenarios.stores_rot; what subscribers miss must be on the lists of lost frames."""
    with world(folder, pack, plan) as made:
        stores = (made.state_dir / SPOOL, made.data_dir / RESULTS)

        def rot() -> None:
            for store in stores:
                flip_bytes(store, FLIPS, made.dice)

        scenarios.stores_rot(made, rot, lambda: _quarantined(made.edge.address) | _lost(made.data_dir))
        return made.settle()


def flip_bytes(store: Path, flips: int, dice: random.Random) -> None:
    """Change that many bytes of a database, anywhere in its pages of rows."""
    with closing(sqlite3.connect(store)) as connection, contextlib.suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(store.read_bytes())
    pages = [start for start in range(PAGE, len(data), PAGE) if data[start] == ROWS]
    for _ in range(flips):
        data[dice.choice(pages) + dice.randrange(PAGE)] ^= dice.randint(1, 255)
    store.write_bytes(data)


def _quarantined(edge: str) -> set[FrameName]:
    """What the edge says it set aside."""
    with urllib.request.urlopen(f"http://{edge}/v1/quarantine?limit=1000", timeout=10) as answer:
        return {(one["camera"], one["seq"]) for one in json.load(answer)["frames"]}


def _lost(data_dir: Path) -> set[FrameName]:
    """What the cloud says it could not save."""
    lines = (line for path in data_dir.glob("*.lost") for line in path.read_text().splitlines())
    return {(camera, int(seq)) for _, camera, seq in map(str.split, lines)}


def _flip_rows(state_dir: Path) -> int:
    """How many rows were damaged."""
    with closing(sqlite3.connect(state_dir / SPOOL)) as connection, connection:
        flipped = "CAST(substr(bitstream, 1, 20) || x'ff' || substr(bitstream, 22) AS BLOB)"
        return connection.execute(f"UPDATE frames SET bitstream = {flipped} WHERE id % 5 = 3").rowcount


def _tear_pages(state_dir: Path) -> int:
    """At least so many rows were damaged."""
    with closing(sqlite3.connect(state_dir / SPOOL)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((state_dir / SPOOL).read_bytes())
    middle = len(data) // 2 // PAGE * PAGE
    data[middle : middle + 2 * PAGE] = b"\xa5" * (2 * PAGE)
    (state_dir / SPOOL).write_bytes(data)
    return 1


SPECIAL: dict[str, Callable[[Path, Path, Plan], Verdict]] = {
    run.__name__: run
    for run in (
        disk_full, cloud_disk_full, clock_jumps, older_pack, certificate_expires, rows_rot, pages_torn,
        stores_rot, still_cameras,
    )
}  # fmt: skip
