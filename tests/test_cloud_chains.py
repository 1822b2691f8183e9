"""Frames that hold cells through a real server: each builds on what the one before left, or on nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from cloud_helpers import CAPTURED, Cloud, PlainRunner, running, stream_request

from cloud.chains import StateCache
from cloud.packs import PackRunner
from cloud.store import DATABASE_FILE
from splitcodec.codec import FeatureDecoder, FeatureEncoder, LatentState
from splitcodec.held_bitstream import is_held
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack
from splitcodec.tasks import ResultLimits
from splitcodec.wire.v1.ingest_pb2 import Frame, Rejection, StreamRequest
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult

SIZE = (96, 160)
FAINT = 1e-4  # what a bit is worth where the random weights hardly see the square move


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack") / "holding"
    write_pack(folder, tiny_pack.holding())
    return load_pack(folder)


@pytest.fixture(scope="module")
def encoder(pack: Pack) -> FeatureEncoder:
    return FeatureEncoder(pack, "ort-cpu", 1)


@pytest.fixture(scope="module")
def chain(encoder: FeatureEncoder) -> list[bytes]:
    """Twelve frames; 0, 5 and 10 are key frames."""
    return coded(encoder, 12, keys=(0, 5, 10))


def coded(encoder: FeatureEncoder, count: int, keys: Sequence[int], seed: int = 0) -> list[bytes]:
    still = np.random.default_rng(seed).integers(40, 90, (*SIZE, 3), dtype=np.uint8)
    prompt, state, out = encoder.pack.prompt("detect"), None, []
    for step in range(count):
        picture = still.copy()
        picture[32:64, 8 * step : 8 * step + 32] = 230
        if step in keys or state is None:
            frame = encoder.compress(picture, prompt, 1.0, (90, 150), chain=True)
        else:
            frame = encoder.compress_held(picture, state, FAINT)
        state = frame.state
        out.append(frame.data)
    return out


@asynccontextmanager
async def cloud(folder: Path, pack: Pack, **settings: object) -> AsyncIterator[Cloud]:
    runner = PackRunner([pack], "ort-cpu", 1, ResultLimits(0.0, 1000, 5))
    async with running(folder, runner, **settings) as started:
        yield started


def requests(chain: Sequence[bytes], first: int = 0, camera: str = "door") -> list[StreamRequest]:
    return [
        StreamRequest(
            frame=Frame(
                key=FrameKey(device="box", camera=camera, seq=seq),
                capture_time_unix_nanos=CAPTURED + seq,
                bitstream=data,
            )
        )
        for seq, data in enumerate(chain, first)
    ]


async def sent(cloud: Cloud, frames: Sequence[StreamRequest]) -> tuple[list[TaskResult], list[Rejection]]:
    """All that the cloud says of frames sent at once on a stream of their own."""
    results: list[TaskResult] = []
    rejections: list[Rejection] = []
    async for response in cloud.ingest.Stream(iter(frames)):
        results.extend(response.results)
        rejections.extend(response.rejections)
    return results, rejections


def seqs(found: Sequence[TaskResult | Rejection]) -> list[int]:
    return [one.key.seq for one in found]


async def test_frames_sent_at_once_are_answered_as_if_one_after_the_other(
    pack: Pack, chain: list[bytes], tmp_path: Path
) -> None:
    decoder, state, names = FeatureDecoder(pack, "ort-cpu", 1), None, []
    for data in chain:
        state = decoder.decompress(data, state).state()
        names.append(state.wire_name)
    async with cloud(tmp_path / "a", pack, workers=2) as one:
        results, rejections = await sent(one, requests(chain))
        assert (seqs(results), rejections) == (list(range(len(chain))), [])
        assert one.metric("splitcodec_cloud_states_made_again_total") == 0
        assert one.metric("splitcodec_cloud_state_bytes") == state.num_bytes
        rows = sqlite3.connect(tmp_path / "a" / DATABASE_FILE).execute(
            "SELECT state FROM chains ORDER BY seq"
        )
        assert [name for (name,) in rows] == names[10:]
    async with cloud(tmp_path / "b", pack, max_batch=1) as other:
        slowly = [(await sent(other, [request]))[0][0] for request in requests(chain)]
    for result, again in zip(results, slowly, strict=True):
        assert result.detections == again.detections
        assert (result.source_height, result.source_width) == (90, 150)
        assert result.num_bytes == again.num_bytes
    assert sum(map(is_held, chain)) == 9


async def test_a_cloud_that_restarts_goes_on_within_a_chain(
    pack: Pack, chain: list[bytes], tmp_path: Path
) -> None:
    async with cloud(tmp_path / "whole", pack) as whole:
        expected, _ = await sent(whole, requests(chain))
    folder = tmp_path / "cut"
    async with cloud(folder, pack) as before:
        await sent(before, requests(chain[:8]))
    async with cloud(folder, pack) as after:
        repeated_and_new = requests(chain)[6:]
        results, rejections = await sent(after, repeated_and_new)
        assert (seqs(results), rejections) == ([6, 7, 8, 9, 10, 11], [])
        assert after.metric("splitcodec_cloud_states_made_again_total") == 1
    for result, wanted in zip(results, expected[6:], strict=True):
        assert result.detections == wanted.detections


async def test_a_frame_whose_state_is_nowhere_is_refused_for_good_and_a_key_frame_cures_it(
    pack: Pack, chain: list[bytes], tmp_path: Path
) -> None:
    async with cloud(tmp_path, pack) as started:
        results, rejections = await sent(started, requests(chain)[3:])
        assert seqs(results) == [5, 6, 7, 8, 9, 10, 11]
        assert [(one.key.seq, one.error, one.settled) for one in rejections] == [
            (3, "StateMismatch", True),
            (4, "StateMismatch", True),
        ]
        assert "send a key frame" in rejections[0].message
        assert started.metric("splitcodec_cloud_key_frames_needed_total", reason="unknown") == 2


async def test_a_frame_that_is_missing_ends_the_chain_and_no_other_camera_s(
    pack: Pack, encoder: FeatureEncoder, chain: list[bytes], tmp_path: Path
) -> None:
    other = coded(encoder, 6, keys=(0,), seed=1)
    async with cloud(tmp_path, pack) as started:
        pairs = zip(requests(chain[:6]), requests(other, 0, "yard"), strict=True)
        mixed = [one for pair in pairs for one in pair]
        del mixed[4]  # door-2
        results, rejections = await sent(started, mixed)
    assert [one.key.seq for one in results if one.key.camera == "yard"] == list(range(6))
    assert [one.key.seq for one in results if one.key.camera == "door"] == [0, 1, 5]
    assert seqs(rejections) == [3, 4]


async def test_what_was_answered_but_not_committed_is_answered_again(
    pack: Pack, chain: list[bytes], tmp_path: Path
) -> None:
    async with cloud(tmp_path, pack) as started:
        call = started.ingest.Stream()
        await call.read()
        for request in requests(chain[:4]):
            await call.write(request)
        response = await call.read()
        assert response.results[0].key.seq == 0
        call.cancel()
        results, rejections = await sent(started, requests(chain[:5]))
        assert (seqs(results), rejections) == ([0, 1, 2, 3, 4], [])


async def test_an_old_key_frame_that_comes_late_harms_no_newer_chain(
    pack: Pack, chain: list[bytes], tmp_path: Path
) -> None:
    async with cloud(tmp_path, pack) as started:
        late = requests(chain[:1])
        await sent(started, requests(chain)[5:8])
        assert seqs((await sent(started, late))[0]) == [0]
        results, rejections = await sent(started, requests(chain)[8:])
        assert (seqs(results), rejections) == ([8, 9, 10, 11], [])


async def test_only_the_newest_chain_of_a_camera_is_kept_and_goes_with_its_results(
    pack: Pack, chain: list[bytes], tmp_path: Path
) -> None:
    def kept() -> list[int]:
        rows = sqlite3.connect(tmp_path / DATABASE_FILE).execute("SELECT seq FROM chains ORDER BY seq")
        return [seq for (seq,) in rows]

    async with cloud(tmp_path, pack) as started:
        await sent(started, requests(chain[:5]))
        assert kept() == [0, 1, 2, 3, 4]
        await sent(started, requests(chain)[5:7])
        assert kept() == [5, 6]
        await started.server.retire(max_bytes=1)
        assert kept() == []


async def test_a_damaged_row_makes_no_picture(pack: Pack, chain: list[bytes], tmp_path: Path) -> None:
    async with cloud(tmp_path, pack) as before:
        await sent(before, requests(chain[:4]))
    with sqlite3.connect(tmp_path / DATABASE_FILE) as database:
        database.execute("UPDATE chains SET bitstream = substr(bitstream, 1, 9) WHERE seq = 2")
    async with cloud(tmp_path, pack) as after:
        results, rejections = await sent(after, requests(chain)[4:6])
        assert (seqs(results), seqs(rejections)) == ([5], [4])
        assert after.metric("splitcodec_cloud_key_frames_needed_total", reason="damaged") == 1


async def test_a_stream_says_whether_frames_may_hold_cells(pack: Pack, tmp_path: Path) -> None:
    async with cloud(tmp_path / "holds", pack) as started:
        assert (await started.ingest.Stream().read()).opened.held_frames
    async with running(tmp_path / "plain", PlainRunner()) as plain:
        call = plain.ingest.Stream(iter([stream_request(1)]))
        assert not (await call.read()).opened.held_frames


def test_states_leave_memory_when_they_are_too_many_the_one_used_longest_ago_first(
    encoder: FeatureEncoder,
) -> None:
    canvas = np.full((*SIZE, 3), 90, np.uint8)
    state = encoder.compress(canvas, encoder.pack.prompt("detect"), 1.0, SIZE, chain=True).state
    assert isinstance(state, LatentState)
    cache = StateCache(3 * state.num_bytes)
    for camera in "abc":
        cache.put(("box", camera), state)
    assert cache.get(("box", "a"), state.wire_name) is not None
    assert cache.get(("box", "a"), b"\0\0\0\0") is None
    cache.put(("box", "d"), replace(state, frames=2))
    here = [cache.get(("box", camera), state.wire_name) is not None for camera in "abcd"]
    assert here == [True, False, True, True]
    assert cache.num_bytes == 3 * state.num_bytes
    cache.put(("box", "c"), None)
    assert cache.num_bytes == 2 * state.num_bytes
