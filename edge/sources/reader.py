"""`python -m edge.sources.reader`: one camera's pictures onto standard output until it ends or is killed.

It trusts nothing it reads, holds no state, and dies with the edge: its standard input closes then.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import simplejpeg
from PIL import Image

from edge.sources.messages import MAX_REASON_BYTES, Message, ReaderOrder, Said
from splitcodec.still_scene import HEIGHT, WIDTH, ChangeGate
from splitcodec.texts import shortened_utf8

JPEG_QUALITY: Final = 92
ALIVE_S: Final = 0.5
PICTURE_SUFFIXES: Final = frozenset((".jpg", ".jpeg", ".png", ".webp"))
ONLY_THESE: Final = {
    "rtsp": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto",
    "v4l2": "file",
    "file": "file",
}
"""Protocols that a stream's own description may name; no file can make the edge fetch a URL."""


VIDEO_FORMATS: Final = "mov,matroska,avi,mpegts,mpeg,flv,h264,hevc,mjpeg,ogg,asf,ivf"
"""Of a file: containers that hold pictures themselves, so no playlists."""


class Ended(Exception):
    """Nothing more can be read; the message says why and holds no address."""


def main() -> None:
    """Entry point of the process."""
    order = ReaderOrder.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_the_edge, daemon=True).start()
    out = sys.stdout.buffer
    try:
        messages = folder_messages(order) if order.kind == "folder" else video_messages(order)
        for message in messages:
            _send(out, message)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:  # whatever a stream can cause; its text may hold the address, so only the kind
        _send(out, Message(Said.FAILED, body=shortened_utf8(reason(error), MAX_REASON_BYTES)))
        sys.exit(1)


def reason(error: Exception) -> str:
    """Why a reader ends, without the address that libav puts into its errors."""
    if isinstance(error, Ended):
        return str(error)
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'no details'}"


def folder_messages(order: ReaderOrder) -> Iterator[Message]:
    """Each picture file once, by name, then those that come; at most `fps` a second."""
    folder, seen = Path(order.place), set[str]()
    if not folder.is_dir():
        raise Ended("no such folder")
    due = time.monotonic()
    gate = ChangeGate(order.min_change)
    while True:
        fresh = sorted(
            path for path in folder.iterdir()
            if path.suffix.lower() in PICTURE_SUFFIXES and path.name not in seen
        )  # fmt: skip
        for path in fresh:
            seen.add(path.name)
            yield from _wait_until(due)
            due = _next_due(due, time.monotonic(), 1 / order.fps)
            if path.stat().st_size <= order.max_bytes:
                data = path.read_bytes()
                changed = not order.min_change or _file_passes(gate, data)
                yield Message(Said.PICTURE, time.time_ns(), data) if changed else Message(Said.UNCHANGED)
        yield Message(Said.ALIVE)
        time.sleep(ALIVE_S)


def video_messages(order: ReaderOrder) -> Iterator[Message]:
    """Decoded frames as JPEG files, at most `fps` a second; a file at its own speed, again and again."""
    gate = ChangeGate(order.min_change)
    while True:
        count = 0
        for message in _played(order, gate):
            count += message.said in (Said.PICTURE, Said.UNCHANGED)
            yield message
        if order.kind != "file" or not count:
            raise Ended("the stream ended" if count else "no picture came")


def _played(order: ReaderOrder, gate: ChangeGate) -> Iterator[Message]:
    import av  # only here: the edge itself runs without

    options = {"protocol_whitelist": ONLY_THESE[order.kind]}
    if order.kind == "rtsp":
        options |= {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
    if order.kind == "file":
        options["format_whitelist"] = VIDEO_FORMATS
    container = av.open(
        order.place,
        format="v4l2" if order.kind == "v4l2" else None,
        options=options,
        timeout=order.timeout_s,
    )
    with container:
        if not container.streams.video:
            raise Ended("it has no video")
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # frame threads would hold frames back
        began, due = None, 0.0
        for frame in container.decode(stream):
            if order.kind == "file" and frame.time is not None:
                began = time.monotonic() - frame.time if began is None else began
                yield from _wait_until(began + frame.time)
            now = time.monotonic()
            if now < due:
                continue
            due = _next_due(due, now, 1 / order.fps)
            if frame.width * frame.height > order.max_pixels:
                raise Ended(f"a frame of {frame.width}x{frame.height} is above {order.max_pixels} pixels")
            if order.min_change and not gate.passes(
                frame.to_ndarray(format="gray", width=WIDTH, height=HEIGHT)
            ):
                yield Message(Said.UNCHANGED)
                continue
            data = simplejpeg.encode_jpeg(frame.to_ndarray(format="rgb24"), JPEG_QUALITY)
            if len(data) <= order.max_bytes:
                yield Message(Said.PICTURE, time.time_ns(), bytes(data))


def _file_passes(gate: ChangeGate, data: bytes) -> bool:
    """A file that is no picture passes: the edge says what is wrong with it."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft("L", (WIDTH, HEIGHT))
            grey = picture.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    except (OSError, ValueError, Image.DecompressionBombError):
        return True
    return gate.passes(np.asarray(grey))


def _next_due(due: float, now: float, step: float) -> float:
    """On the beat, unless more than one beat was missed; `due` is not after `now`."""
    return (due if now - due < step else now) + step


def _wait_until(moment: float) -> Iterator[Message]:
    """Signs of life while there is time."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, ALIVE_S))
        if left > ALIVE_S:
            yield Message(Said.ALIVE)


def _send(out: BinaryIO, message: Message) -> None:
    out.write(message.packed())
    out.flush()


def _die_with_the_edge() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
