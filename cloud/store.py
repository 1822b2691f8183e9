"""Results in one SQLite file (WAL, synchronous=FULL): what is committed here survives a power cut.

Every result gets a cursor, a number that only rises and is never used again; reading in cursor order is
reading in commit order. A frame key is stored once. The age and size limits delete the oldest results; per
camera the cursor of the last deleted one is remembered, so that a reader who was too slow learns of the gap,
and the highest deleted seq, so that a frame that is sent again after that is not stored anew.

Reading is for any thread (`cloud.reads`), writing for one; `cloud.result_log` does both off the event loop.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeAlias

from cloud import chain_rows
from cloud.chain_rows import ChainLink
from cloud.messages import FrameKey
from cloud.reads import MAX_PAGE_BYTES, ResultReader, check_retired, find
from cloud.recovery import save
from cloud.retention import last_old, retire
from cloud.row_checks import keep_crc
from cloud.schema import SCHEMA_VERSION, migrate, version_of
from splitcodec.damaged import is_damage, move_aside
from splitcodec.errors import FrameConflict, RequestError, ResultRetired, ResultTooLarge, StoreUnavailable
from splitcodec.first_page import keep_first_page, mend_first_page
from splitcodec.wire.names import MAX_SEQ
from splitcodec.wire.v1.results_pb2 import TaskResult

log = logging.getLogger(__name__)
DATABASE_FILE: Final = "results.sqlite3"
LOCK_FILE: Final = "results.lock"
RETIRE_ROWS: Final = 500  # deleted per transaction, so that commits wait milliseconds at most
MAX_RESULT_BYTES: Final = MAX_PAGE_BYTES
"""No result is stored with more: it would fit in no page, and in no message of a stream."""


@dataclass(frozen=True)
class Committed:
    """A result as it is in the store, cursor set; `repeated` if it was there before."""

    result: TaskResult
    repeated: bool


Outcome: TypeAlias = Committed | RequestError


@dataclass(frozen=True)
class StoreSize:
    """How much is stored: results, and bytes of the database that are in use."""

    results: int
    num_bytes: int


class ResultStore(ResultReader):
    """One process at a time; StoreUnavailable from any method when the database cannot be used."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / DATABASE_FILE)
        self.damaged_files = 0  # that were moved aside
        self.lost = 0  # results that were not saved from them, as far as their keys were
        with self._storing():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_folder(folder)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            self._open_file()
        except StoreUnavailable as error:
            if not is_damage(error.__cause__):
                raise
            self._recover(error)

    def _recover(self, damage: StoreUnavailable) -> None:
        """Go on with a new database that has what could be read of the damaged one."""
        with self._storing():
            aside = move_aside(self._path)
            self._life += 1
            self._open_file()
            found = save(aside, self._writer)
            (self._count,) = self._writer.execute("SELECT COUNT(*) FROM results").fetchone()
        self.damaged_files += 1
        self.lost += found.lost
        said = (damage, found.aside, found.saved, found.lost)
        log.error("%s; it is now %s, %s results were saved from it, %s were lost", *said)

    def mend(self, damage: StoreUnavailable, life: int) -> int:
        """Replace the database that a read of that life found damaged, unless it was; the newest cursor then.
        For the thread that writes."""
        if self._life == life:
            self._recover(damage)
        return self.newest()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """StoreUnavailable, after which a damaged database has been replaced."""
        try:
            with self._storing():
                yield
        except StoreUnavailable as error:
            if is_damage(error.__cause__):
                self._recover(error)
            raise

    def _open_file(self) -> None:
        with self._storing():
            mend_first_page(self._path)
            self._writer = self._connect()
            version = version_of(self._writer)
            if not 0 <= version <= SCHEMA_VERSION:
                raise StoreUnavailable(
                    f"{self._path} has schema version {version}, this service writes {SCHEMA_VERSION}; "
                    "update the service or choose another data_dir"
                )
            migrate(self._writer)
            keep_first_page(self._path, self._writer)
            (self._count,) = self._writer.execute("SELECT COUNT(*) FROM results").fetchone()

    def close(self) -> None:
        """Close every connection and let go of the folder."""
        super().close()
        self._lock.close()

    def put(
        self, results: Sequence[TaskResult], links: Sequence[ChainLink | None] | None = None
    ) -> list[Outcome]:
        """Commit all in one transaction, in order. A key that is there already keeps its first result.

        links: for each result what is kept of its frame for those that build on it; None: nothing.

        In place of a result that is not kept: FrameConflict where the key belongs to a frame of another
        capture time, ResultRetired where it was deleted, ResultTooLarge above MAX_RESULT_BYTES.
        """
        with self._writing(), _transaction(self._writer):
            kept = links or [None] * len(results)
            outcomes = [self._put_one(result, link) for result, link in zip(results, kept, strict=True)]
        self._count += sum(isinstance(one, Committed) and not one.repeated for one in outcomes)
        return outcomes

    def size(self) -> StoreSize:
        """What is stored now, without a walk through a table; for the thread that writes."""
        with self._storing():
            return StoreSize(self._count, _bytes_in_use(self._writer))

    def retire_some(self, oldest_stored: int, max_bytes: int) -> int:
        """Delete up to RETIRE_ROWS results over the limits; how many went. 0 means that the limits hold.

        oldest_stored: unix nanoseconds, results stored before go, as cloud.retention says. max_bytes: while
        the database uses more, the oldest results go.
        """
        with self._writing():
            until = last_old(self._writer, oldest_stored, time.time_ns(), RETIRE_ROWS)
            with _transaction(self._writer):
                too_big = _bytes_in_use(self._writer) > max_bytes
                gone = retire(self._writer, MAX_SEQ if too_big else until, RETIRE_ROWS)
            self._count -= gone
            if gone:
                self._writer.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def _put_one(self, result: TaskResult, link: ChainLink | None) -> Outcome:
        key = FrameKey(result.key.device, result.key.camera, result.key.seq)
        existing = find(self._writer, key)
        if existing is None:
            outcome = self._insert(key, result)
            if link is not None and isinstance(outcome, Committed):
                chain_rows.append(self._writer, key, link)
            return outcome
        if existing.capture_time_unix_nanos != result.capture_time_unix_nanos:
            return conflict(key, existing, result.capture_time_unix_nanos)
        return Committed(existing, repeated=True)

    def _insert(self, key: FrameKey, result: TaskResult) -> Outcome:
        rest, output = _split(result)
        num_bytes = len(rest) + len(output)
        if num_bytes > MAX_RESULT_BYTES:
            return too_large(key, num_bytes)
        try:
            check_retired(self._writer, key)
        except ResultRetired as error:
            return error
        stored = self._writer.execute(
            "INSERT INTO results (device, camera, seq, task, captured, stored, result, output) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key.columns(), result.task, result.capture_time_unix_nanos, time.time_ns(), rest, output),
        )
        keep_crc(self._writer, int(stored.lastrowid or 0), rest, output)
        committed = TaskResult()
        committed.CopyFrom(result)
        committed.cursor = int(stored.lastrowid or 0)
        return Committed(committed, repeated=False)


def conflict(key: FrameKey, existing: TaskResult, captured: int) -> FrameConflict:
    """The error for a second frame, captured at `captured`, with the key of an existing one."""
    return FrameConflict(
        f"{key} was captured at {existing.capture_time_unix_nanos}, not at {captured} (unix nanoseconds); "
        "a device must number its frames upwards and never reuse a seq"
    )


def too_large(key: FrameKey, num_bytes: int) -> ResultTooLarge:
    """The error for a result of num_bytes that is not kept, or not sent."""
    return ResultTooLarge(
        f"the result of {key} has {num_bytes} bytes, one may have {MAX_RESULT_BYTES}; "
        "lower max_detections, or serve a pack whose task says less"
    )


def _split(result: TaskResult) -> tuple[bytes, bytes]:
    """The message without its output, and one with the output alone; together they are the whole."""
    rest, output = TaskResult(), TaskResult()
    rest.CopyFrom(result)
    kind = result.WhichOneof("output")
    if kind is not None:
        getattr(output, kind).CopyFrom(getattr(result, kind))
        rest.ClearField(kind)
    return rest.SerializeToString(), output.SerializeToString()


def _bytes_in_use(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _lock_folder(folder: Path) -> TextIO:
    lock = (folder / LOCK_FILE).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreUnavailable(
            f"{folder} is in use by another cloud service; stop it or choose another data_dir"
        ) from None
    return lock


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """The body's writes are committed together, or none of them is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # a full disk may have rolled it back already
            connection.execute("ROLLBACK")
