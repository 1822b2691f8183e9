"""Frames on disk until the cloud has acknowledged them: what was committed here survives a power cut.

One SQLite file (WAL, synchronous=FULL), written by one thread; `edge.spool_log` calls the methods off the
event loop, many per transaction. Age is measured by a clock that runs only while the edge does, so a wall
clock that jumps drops nothing.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge import identity, posts, spool_fates, spool_policy
from edge.identity import Identity
from edge.metrics import EdgeMetrics
from edge.spool_file import (
    FRAME_COLUMNS,
    SPOOL_FILE,
    StoredRow,
    bytes_in_use,
    checksum,
    disk_free,
    open_file,
    salvage,
)
from edge.spool_policy import SpoolLimits, Victim
from edge.spool_types import Depth, Fate, Lane
from edge.uplink import OutgoingFrame
from splitcodec.damaged import DISK_ERRORS, is_damage, move_aside
from splitcodec.errors import SpoolFull, SpoolUnavailable, StateMismatch
from splitcodec.held_bitstream import is_held

log = logging.getLogger(__name__)
ROW_BYTES: Final = 512  # of the file, besides the bitstream
REOPEN_S: Final = 5.0


class Spool:
    """All methods but `depth` and `note` belong to one thread; those that touch the file run inside
    `transaction`. SpoolUnavailable when the disk does not take what was asked; nothing of that transaction is
    kept then."""

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits,
        metrics: EdgeMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the file in `folder`. A damaged one is moved aside and what is sound in it taken over; one
        that cannot be opened is tried again later: an edge starts in any case."""
        self.depth = Depth()
        self.note = ""  # what an operator should know, for /readyz
        self._path = folder / SPOOL_FILE
        self.limits = limits
        self._metrics = metrics
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._epoch = 0.0
        self._tried_at: float | None = None
        self._lost: Counter[tuple[str, str]] = Counter()
        self._handed_out: dict[Lane, int] = {}
        self._sound: set[Lane] = set()  # frames may build on their last one, which is here or was sent
        self._identity: Identity | None = None
        with contextlib.suppress(SpoolUnavailable), self.transaction():
            pass

    def close(self) -> None:
        """Keep the clock and close the file."""
        with contextlib.suppress(SpoolUnavailable), self.transaction():
            self._execute("UPDATE clock SET seconds = ?", (self.now(),))
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def now(self) -> float:
        """Seconds the edge has run, over all its lives."""
        return self._epoch + self._clock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What the body does is on disk when the block has ended, or not at all."""
        try:
            self._open_if_closed()
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            finally:
                if self._open().in_transaction:
                    self._execute("ROLLBACK")
        except DISK_ERRORS as error:
            self._lost.clear()
            if is_damage(error):
                self._recover(error)
            raise SpoolUnavailable(
                f"spool {self._path}: {error}; check that disk and its free space"
            ) from error
        self._count_losses()
        self.depth = self._read_depth()

    def lanes(self) -> dict[Lane, int]:
        """Every lane that has frames here, and its highest seq."""
        rows = self._execute("SELECT device, camera, MAX(seq) FROM frames GROUP BY device, camera")
        return {(device, camera): seq for device, camera, seq in rows}

    def put(
        self, frame: OutgoingFrame, worth: int = 0, handed_out: bool = False, post: posts.Post | None = None
    ) -> None:
        """Keep a frame. worth: detections in the camera's last known result; handed_out: it is being sent;
        post: what asked for it under a key, which is kept with it.

        SpoolFull: no room, and the policy makes none. StateMismatch: it builds on a frame that was dropped.
        """
        lane = (frame.device, frame.camera)
        if handed_out:
            self._hand_out(lane, frame.seq)
        self._make_room(len(frame.bitstream) + ROW_BYTES)
        if is_held(frame.bitstream) and lane not in self._sound:
            raise StateMismatch(f"frame {frame.seq} of {lane} builds on one lost here; send a key frame")
        self._sound.add(lane)
        self._execute(
            f"INSERT INTO frames ({FRAME_COLUMNS}, spooled, worth, num_bytes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(frame.device, frame.camera, frame.seq, frame.task, frame.capture_time_nanos),
                *(checksum(frame), frame.bitstream, self.now(), worth, len(frame.bitstream)),
            ),
        )
        if post is not None:
            posts.remember(self._open(), post, frame)

    def take(self, lane: Lane, after: int, limit: int) -> list[OutgoingFrame]:
        """The next frames of a lane beyond seq `after`, in order; the limits no longer touch these.

        Damaged rows are quarantined. Fewer than `limit` frames mean that there are no more.
        """
        sound: list[OutgoingFrame] = []
        while len(sound) < limit:
            rows = self._execute(
                f"SELECT {FRAME_COLUMNS} FROM frames WHERE device = ? AND camera = ? AND seq > ? "
                "ORDER BY seq LIMIT ?",
                (*lane, after, limit - len(sound)),
            ).fetchall()
            if not rows:
                break
            for row in map(lambda columns: StoredRow(*columns), rows):
                frame = row.frame()
                after = row.seq
                if frame is None:
                    log.error(
                        "a frame of %s in %s is damaged (seq %s); quarantined", lane, self._path, row.seq
                    )
                    self.quarantine(lane, row.seq, "damaged", "its row in the spool is damaged")
                else:
                    sound.append(frame)
        if sound:
            self._hand_out(lane, after)
        return sound

    def settle(self, lane: Lane, seqs: Sequence[int]) -> None:
        """These were acknowledged and go."""
        for seq in seqs:
            spool_fates.delete(self._open(), lane, seq)

    def quarantine(self, lane: Lane, seq: int, reason: str, detail: str) -> None:
        """A frame that will never be sent again: kept aside for a while. reason: damaged or refused."""
        if not spool_fates.set_aside(self._open(), lane, seq, detail):
            spool_fates.check_gone(self._open(), lane, seq)
            return  # dropped by a limit, or acknowledged, meanwhile
        self._lost["quarantined", reason] += 1

    def rewind(self) -> None:
        """No frame is being sent any more."""
        self._handed_out.clear()

    def expire(self) -> None:
        """Drop what is older than the age limit."""
        self._execute("UPDATE clock SET seconds = ?", (self.now(),))
        oldest = self.now() - self.limits.max_age_s
        self._drop("age", spool_policy.expired(self._open(), oldest, self._is_handed_out))

    @property
    def connection(self) -> sqlite3.Connection:
        """For what belongs to other files, inside `transaction`."""
        return self._open()

    def identify(self, known: Identity) -> None:
        """Keep the device's name and the end of its numbers, in a file that replaces this one too."""
        self._identity = known
        identity.keep(self._open(), known)

    def posts(self) -> list[tuple[str, bytes, str]]:
        """The keys of posts that are kept here; see edge.posts."""
        return posts.remembered(self._open())

    def find(self, camera: str, seq: int) -> Fate | None:
        """What is known of a frame; None if it was acknowledged, forgotten or never here."""
        return spool_fates.find(self._open(), camera, seq)

    def _make_room(self, need: int) -> None:
        limit = min(self.limits.max_bytes, self._used() + disk_free(self._path.parent, self._open()))
        if self._used() + need <= limit:
            return
        spool_fates.forget_bitstreams(self._open())
        posts.forget_settled(self._open())
        if need < self.limits.max_bytes:
            for reason, victims in spool_policy.passes(self._open(), self.limits, self._is_handed_out):
                if self._used() + need <= limit:
                    return
                self._drop(reason, victims)
        if self._used() + need > limit:
            raise SpoolFull(
                f"the spool uses {self._used()} bytes of {limit} and has no room for {need} more; wait until "
                "the cloud has taken some, raise spool_bytes, or choose another spool_policy"
            )

    def _drop(self, reason: str, victims: Sequence[Victim]) -> None:
        falling = spool_policy.with_followers(self._open(), victims)
        spool_fates.drop(self._open(), reason, falling.victims)
        self._sound -= falling.ends
        self._lost["dropped", reason] += len(falling.victims)

    def _hand_out(self, lane: Lane, seq: int) -> None:
        self._handed_out[lane] = max(seq, self._handed_out.get(lane, -1))

    def _is_handed_out(self, device: str, camera: str, seq: int) -> bool:
        return seq <= self._handed_out.get((device, camera), -1)

    def _used(self) -> int:
        return bytes_in_use(self._open())

    def _read_depth(self) -> Depth:
        frames, num_bytes = self._execute("SELECT frames, num_bytes FROM totals").fetchone()
        oldest = self._execute("SELECT spooled FROM frames ORDER BY id LIMIT 1").fetchone()
        return Depth(frames, num_bytes, oldest[0] if oldest else None)

    def _open_if_closed(self) -> None:
        if self._connection is not None:
            return
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < REOPEN_S:
            raise sqlite3.OperationalError(f"it could not be opened; next try within {REOPEN_S:.0f} s")
        self._tried_at = now
        self.note = f"the spool {self._path} cannot be opened; frames wait in memory only"
        self._adopt(open_file(self._path))
        self.note = ""

    def _adopt(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        newest = self._execute(
            "SELECT MAX(seconds, IFNULL((SELECT spooled FROM frames ORDER BY id DESC LIMIT 1), 0)) FROM clock"
        ).fetchone()[0]
        self._epoch = newest - self._clock()

    def _recover(self, damage: Exception) -> None:
        """Go on with a new file that has what could be read of the damaged one."""
        self._sound.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._metrics.spool_damaged_files.inc()
        try:
            aside = move_aside(self._path)
            connection = open_file(self._path)
            found = salvage(aside, connection)
            if self._identity is not None:
                identity.keep(connection, self._identity)
            self._adopt(connection)
            self.depth = self._read_depth()
        except DISK_ERRORS as error:
            log.error("spool %s is damaged (%s) and cannot be replaced: %s", self._path, damage, error)
            return
        self._metrics.spool_quarantined.labels("damaged").inc(found.lost)
        self.note = (
            f"the spool was damaged ({damage}) and is now {aside}; {found.saved} frames were taken over, "
            f"{found.lost} could not be read"
        )
        log.error("%s", self.note)

    def _count_losses(self) -> None:
        for (what, reason), number in self._lost.items():
            counter = self._metrics.spool_dropped if what == "dropped" else self._metrics.spool_quarantined
            counter.labels(reason).inc(number)
        self._lost.clear()

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._open().execute(statement, values)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("the file is not open")
        return self._connection
