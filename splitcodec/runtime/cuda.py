"""The few CUDA calls a TensorRT session needs, through libcudart alone.

JetPack, the nvidia-cuda-runtime wheels and system installs all carry libcudart, while no one Python package
is common to them; so it is loaded by ctypes, and only when a TensorRT session is opened.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed, RuntimeUnavailable

Array = NDArray[Any]
VERSIONS: Final = (13, 12)
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor and Minor


class Cuda:
    """libcudart with every call checked."""

    def __init__(self, library: Any) -> None:
        """Takes a loaded libcudart; `load_cuda` finds it."""
        self._lib = library
        library.cudaGetErrorString.restype = ctypes.c_char_p

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._lib, function)(*arguments)
        if code != 0:
            text = self._lib.cudaGetErrorString(code)
            message = text.decode(errors="replace") if isinstance(text, bytes) else "unknown error"
            raise GraphFailed(
                f"{function} failed: {message} (cudaError {code}); check the driver with nvidia-smi"
            )

    def _number(self, function: str, *arguments: Any) -> int:
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value

    def device_count(self) -> int:
        """Number of GPUs; raises GraphFailed without a driver."""
        return self._number("cudaGetDeviceCount")

    def driver_version(self) -> int:
        """CUDA version of the driver, e.g. 13020; 0 without a driver."""
        return self._number("cudaDriverGetVersion")

    def compute_capability(self, device: int = 0) -> str:
        """e.g. 8.7 for Orin."""
        major = self._number("cudaDeviceGetAttribute", _CAPABILITY_MAJOR, device)
        return f"{major}.{self._number('cudaDeviceGetAttribute', _CAPABILITY_MINOR, device)}"

    def create_stream(self) -> int:
        """Handle of a new stream, which lives as long as the process."""
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        return int(stream.value or 0)

    def synchronize(self, stream: int) -> None:
        """Waits until everything queued on `stream` is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def allocate(self, num_bytes: int) -> DeviceBuffer:
        """A buffer on the GPU, freed with its object."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, num_bytes)))
        return DeviceBuffer(self, int(pointer.value or 0), num_bytes)

    def free(self, pointer: int) -> None:
        """Gives a buffer back; late in the interpreter's life this may fail, which is of no consequence."""
        self._lib.cudaFree(ctypes.c_void_p(pointer))

    def upload(self, array: Array, buffer: DeviceBuffer, stream: int) -> None:
        """Queues the copy of a contiguous array into a buffer.

        Keep the array alive until the stream is done.
        """
        self._copy(buffer.pointer, array.ctypes.data, array.nbytes, _HOST_TO_DEVICE, stream)

    def download(self, buffer: DeviceBuffer, array: Array, stream: int) -> None:
        """Queues the copy of a buffer into a contiguous array."""
        self._copy(array.ctypes.data, buffer.pointer, array.nbytes, _DEVICE_TO_HOST, stream)

    def _copy(self, target: int, source: int, num_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(num_bytes),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def to_device(self, array: Array) -> DeviceBuffer:
        """A new buffer with the array's bytes, complete when this returns."""
        contiguous = np.ascontiguousarray(array)
        buffer = self.allocate(contiguous.nbytes)
        self.upload(contiguous, buffer, 0)
        self.synchronize(0)
        return buffer


class DeviceBuffer:
    """Bytes on the GPU."""

    def __init__(self, cuda: Cuda, pointer: int, num_bytes: int) -> None:
        self._cuda = cuda
        self.pointer = pointer
        self.num_bytes = num_bytes

    def __del__(self) -> None:
        if self.pointer:
            self._cuda.free(self.pointer)


def load_cuda() -> Cuda:
    """libcudart with a working driver and at least one GPU.

    Raises RuntimeUnavailable saying what is missing.
    """
    tried = []
    for path in _candidates():
        try:
            cuda = Cuda(ctypes.CDLL(path))
        except OSError:
            tried.append(path)
            continue
        try:
            count = cuda.device_count()
        except GraphFailed as error:
            raise RuntimeUnavailable(f"no usable NVIDIA GPU: {error}") from error
        if count == 0:
            raise RuntimeUnavailable("no NVIDIA GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES")
        return cuda
    raise RuntimeUnavailable(
        f"libcudart was not found (tried {tried}); install CUDA 12 or 13, or '.[cuda]' from the source folder"
    )


def _candidates() -> Sequence[str]:
    if not sys.platform.startswith("linux"):
        return []
    names = [f"libcudart.so.{version}" for version in VERSIONS]
    spec = find_spec("nvidia")
    roots = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    folders = [root / folder / "lib" for root in roots for folder in ("cu13", "cuda_runtime")]
    wheels = [str(path) for folder in folders for path in sorted(folder.glob("libcudart.so.*"))]
    return [*wheels, *names, "libcudart.so"]
