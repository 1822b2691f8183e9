"""The checksums of names and acknowledgements: every bit of what delivery depends on is covered."""

from __future__ import annotations

import pytest

from splitcodec.wire.integrity import frame_crc, is_intact, response_crc
from splitcodec.wire.v1.ingest_pb2 import Frame, Rejection, StreamResponse
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult

KEY = FrameKey(device="box", camera="door", seq=7)


def sealed_frame() -> Frame:
    frame = Frame(key=KEY, capture_time_unix_nanos=5, task="detect", bitstream=b"bits")
    frame.crc32c = frame_crc(frame)
    return frame


def sealed_response() -> StreamResponse:
    response = StreamResponse(
        results=[TaskResult(key=KEY)], rejections=[Rejection(key=KEY, settled=True)], acks=[KEY]
    )
    response.crc32c = response_crc(response)
    return response


def test_what_was_sealed_is_intact() -> None:
    assert is_intact(Frame.FromString(sealed_frame().SerializeToString()))
    assert is_intact(StreamResponse.FromString(sealed_response().SerializeToString()))


def test_a_message_without_a_checksum_is_taken() -> None:
    assert is_intact(Frame(key=KEY))
    assert is_intact(StreamResponse(acks=[KEY]))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: setattr(frame.key, "device", "bux"),
        lambda frame: setattr(frame.key, "camera", "doo"),
        lambda frame: setattr(frame.key, "seq", 8),
        lambda frame: setattr(frame, "capture_time_unix_nanos", 6),
        lambda frame: setattr(frame, "task", "segment"),
        lambda frame: setattr(frame, "bitstream", b"bitz"),
        lambda frame: (setattr(frame.key, "device", "boxd"), setattr(frame.key, "camera", "oor")),
    ],
)
def test_a_frame_that_changed_is_damaged(change) -> None:  # type: ignore[no-untyped-def]
    frame = sealed_frame()
    change(frame)
    assert not is_intact(frame)


@pytest.mark.parametrize(
    "change",
    [
        lambda response: setattr(response.results[0].key, "seq", 8),
        lambda response: setattr(response.rejections[0], "settled", False),
        lambda response: setattr(response.acks[0], "seq", 1 << 40),
        lambda response: setattr(response.acks[0], "camera", "yard"),
        lambda response: response.acks.add(device="box", camera="yard", seq=7),
        lambda response: response.ClearField("acks"),
    ],
)
def test_a_response_that_changed_is_damaged(change) -> None:  # type: ignore[no-untyped-def]
    response = sealed_response()
    change(response)
    assert not is_intact(response)
