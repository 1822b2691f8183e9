"""What is fuzzed: each parser that bytes from outside reach, with the errors that it may raise.

A target takes one input and returns, or raises what is a finding: any exception its parser does not promise,
a broken property (an accepted input has one form only), or MemoryError under the limit of the long run.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np

from splitcodec import entropy
from splitcodec.bitstream import MAGIC, Bitstream, Header, parse, serialize
from splitcodec.errors import (
    BitstreamError,
    CorruptBitstream,
    FrameError,
    InvalidManifest,
    InvalidRequest,
    InvalidTables,
    PackError,
    PromptError,
    UnsafePack,
)

HOSTILE: Final = Path(__file__).resolve().parent.parent / "hostile"
OneInput = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """One parser. share: of 100 inputs of a long run, how many are its own; max_bytes: of one input.

    build: opens what the parser needs and returns the function of one input.
    """

    name: str
    share: float
    max_bytes: int
    seeds: Callable[[], list[bytes]]
    build: Callable[[], OneInput]


def hostile(pattern: str) -> list[bytes]:
    """The frozen files of tests/hostile."""
    return [path.read_bytes() for path in sorted(HOSTILE.glob(pattern))]


@lru_cache(maxsize=1)
def pack_files() -> dict[str, bytes]:
    """The files of the tiny pack, by path."""
    import tiny_pack

    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "tiny"
        tiny_pack.write_tiny_pack(root)
        return {
            path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
        }


def files_like(suffix: str) -> list[bytes]:
    """The files of the tiny pack with this ending."""
    return [data for path, data in sorted(pack_files().items()) if path.endswith(suffix)]


def _bitstream() -> OneInput:
    def one(data: bytes) -> None:
        """As it came, and once more behind a right magic and checksum, which a forger can compute."""
        body = MAGIC + b"\x01\x00" + data
        for form in (data, body + google_crc32c.value(body).to_bytes(4, "little")):
            try:
                parsed = parse(form)
            except BitstreamError:
                continue
            assert serialize(parsed) == form, "an accepted bitstream has a second form"

    return one


def _bitstream_seeds() -> list[bytes]:
    sealed = [data[6:-4] for data in hostile("*.bin") if data.startswith(MAGIC)]
    header = Header(b"codec-id", b"promptid", 256, 65, 129, 96, 160, 7)
    return [*hostile("*.bin"), *sealed, serialize(Bitstream(header, b"z" * 200, b"y" * 300))]


def _entropy() -> OneInput:
    tables = entropy.build_gaussian_tables()
    index = (np.arange(3 * 6 * 10) % 30).astype(np.uint8).reshape(3, 6, 10)
    row = np.array([1 << 12] * 31 + [(1 << 24) - 62 * (1 << 12)] + [1 << 12] * 31, dtype=np.int32)
    counts = np.tile(row, (2, 1))

    def one(data: bytes) -> None:
        """As a y substream, and as a z substream."""
        try:
            symbols = entropy.decode_symbols(data, index, tables)
            assert entropy.encode_symbols(symbols, index, tables) == data, "y has a second form"
        except CorruptBitstream:
            pass
        try:
            z = entropy.decode_hyper(data, (2, 2, 3), counts)
            assert entropy.encode_hyper(z, counts) == data, "z has a second form"
        except CorruptBitstream:
            pass

    return one


def _entropy_seeds() -> list[bytes]:
    tables = entropy.build_gaussian_tables()
    index = (np.arange(3 * 6 * 10) % 30).astype(np.uint8).reshape(3, 6, 10)
    y = (np.arange(index.size) % 7 // 6).astype(np.int32).reshape(index.shape)
    return [entropy.encode_symbols(y, index, tables), b"", b"\xff" * 4000, bytes(8)]


def _manifest() -> OneInput:
    from splitcodec.packs.load import parse_manifest

    def one(data: bytes) -> None:
        with suppress(InvalidManifest):
            parse_manifest(data, "pack")

    return one


def _onnx() -> OneInput:
    from splitcodec.packs.onnx_graph import read_outline

    def one(data: bytes) -> None:
        with suppress(UnsafePack):
            read_outline(data, "graph.onnx")

    return one


def _tables() -> OneInput:
    def one(data: bytes) -> None:
        with suppress(InvalidTables):
            entropy.SymbolTables.from_npz(data)

    return one


def _prompt() -> OneInput:
    import tiny_pack

    from splitcodec.prompts import check_tensors, parse_tensors

    with tempfile.TemporaryDirectory() as place:
        codec = tiny_pack.write_tiny_pack(Path(place) / "tiny").manifest.codec

    def one(data: bytes) -> None:
        try:
            tensors = parse_tensors(data, "prompt")
            check_tensors(tensors, codec.prompt_schema, codec.exact_bound, "prompt")
        except (PromptError, PackError):
            pass

    return one


def _zip() -> OneInput:
    from splitcodec.packs.files import ZipFiles

    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "pack.zip"

    def one(data: bytes) -> None:
        place.write_bytes(data)
        try:
            files = ZipFiles(place)
            for path in files.paths():
                files.read(path)
        except PackError:
            pass

    return one


def _zip_seeds() -> list[bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"{}" * 50)
        archive.writestr("codec/head.onnx", bytes(200))
    return [buffer.getvalue()]


def _picture() -> OneInput:
    from splitcodec.frame import decode_picture
    from splitcodec.picture import PictureLimits

    limits = PictureLimits(max_bytes=1 << 20, max_pixels=40_000)

    def one(data: bytes) -> None:
        try:
            picture = decode_picture(data, None, limits)
        except FrameError:
            return
        assert picture.source_height * picture.source_width <= limits.max_pixels
        assert picture.pixels.dtype == np.uint8

    return one


def _picture_seeds() -> list[bytes]:
    from PIL import Image

    image = Image.fromarray(np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3))
    found = []
    for kind, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {})):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def _grpc() -> OneInput:
    from google.protobuf.message import DecodeError

    from cloud.messages import frame_key, incoming_frame
    from splitcodec.errors import SplitcodecError
    from splitcodec.tasks import answer_of
    from splitcodec.wire.v1 import ingest_pb2, results_pb2

    def one(data: bytes) -> None:
        """As each message the services read from a peer."""
        for kind in (ingest_pb2.InferRequest, ingest_pb2.StreamRequest):
            try:
                frame = incoming_frame(kind.FromString(data).frame)
                parse(frame.bitstream)
            except (DecodeError, InvalidRequest, BitstreamError):
                pass
        with suppress(DecodeError, InvalidRequest):
            frame_key(results_pb2.GetResultRequest.FromString(data).key)
        with suppress(DecodeError, SplitcodecError):
            answer_of(results_pb2.TaskResult.FromString(data))

    return one


def _grpc_seeds() -> list[bytes]:
    from splitcodec.wire.v1 import ingest_pb2, results_pb2

    key = results_pb2.FrameKey(device="box", camera="door", seq=7)
    frame = ingest_pb2.Frame(
        key=key, capture_time_unix_nanos=1, task="detect", bitstream=_bitstream_seeds()[-1]
    )
    cat = results_pb2.Detection(label="cat", score=0.5, box=results_pb2.Box(x2=3, y2=4))
    result = results_pb2.TaskResult(key=key, detections=results_pb2.Detections(items=[cat]))
    messages = (
        ingest_pb2.InferRequest(frame=frame),
        results_pb2.GetResultRequest(key=key),
        result,
    )
    return [bytes(message.SerializeToString()) for message in messages]


def _http() -> OneInput:
    from fuzz.http_target import open_edge

    return open_edge()


def _http_seeds() -> list[bytes]:
    heads = (b"POST /v1/frames camera=a&rate=1", b"GET /v1/frames/a-1", b"GET /readyz", b"PUT /v1/frames")
    return [heads[0] + b"\n" + body for body in _picture_seeds()] + [head + b"\n" for head in heads[1:]]


TARGETS: Final = (
    Target("bitstream", 50, 4096, _bitstream_seeds, _bitstream),
    Target("entropy", 10, 4096, _entropy_seeds, _entropy),
    Target("onnx", 10, 4096, lambda: files_like(".onnx"), _onnx),
    Target("grpc", 10, 4096, _grpc_seeds, _grpc),
    Target("prompt", 6, 65536, lambda: files_like(".safetensors"), _prompt),
    Target("picture", 6, 8192, _picture_seeds, _picture),
    Target("tables", 4, 65536, lambda: files_like(".npz"), _tables),
    Target("manifest", 2, 32768, lambda: files_like("manifest.json"), _manifest),
    Target("zip", 2, 4096, _zip_seeds, _zip),
    Target("http", 0.2, 8192, _http_seeds, _http),
)
