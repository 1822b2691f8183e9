"""TensorRT and libcudart on host memory: a session can be run without a GPU."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from splitcodec.runtime.shapes import SizeRange


class FakeCudart:
    """libcudart on host memory: pointers are those of ctypes buffers, copies happen at once."""

    def __init__(self, devices: int = 1, error: int = 0) -> None:
        self.memory: dict[int, Any] = {}
        self.uploads = 0
        self._devices, self._error = devices, error
        self.cudaGetErrorString = lambda code: b"no driver"
        self.cudaGetErrorString.restype = None  # type: ignore[attr-defined]

    def cudaGetDeviceCount(self, out: Any) -> int:
        out._obj.value = self._devices
        return self._error

    def cudaDriverGetVersion(self, out: Any) -> int:
        out._obj.value = 13020
        return 0

    def cudaDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:
        out._obj.value = {75: 8, 76: 7}[attribute]
        return 0

    def cudaStreamCreate(self, out: Any) -> int:
        out._obj.value = 77
        return 0

    def cudaStreamSynchronize(self, stream: Any) -> int:
        return 0

    def cudaMalloc(self, out: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        out._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0

    def cudaFree(self, pointer: Any) -> int:
        del self.memory[pointer.value]
        return 0

    def cudaMemcpyAsync(self, target: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        self.uploads += kind.value == 1
        ctypes.memmove(target.value, source.value, size.value)
        return 0


class FakeContext:
    """Computes out = a * b from the bound addresses, a [N, 2] and b [2]."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.batches: list[int] = []
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        if name == "a":
            self.batches.append(shape[0])
        if name == "a" and not 1 <= shape[0] <= SizeRange().batch[-1]:
            return False  # as TensorRT does outside the profile
        return len(shape) == {"a": 2, "b": 1}[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes["a"]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def _view(self, name: str, shape: tuple[int, ...]) -> Any:
        pointer = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shapes["a"]
        self._view("out", shape)[:] = self._view("a", shape) * self._view("b", self.shapes["b"])
        return stream == 77


class FakeEngine:
    num_io_tensors, num_layers = 3, 1

    def get_tensor_name(self, i: int) -> str:
        return ("a", "b", "out")[i]

    def get_tensor_mode(self, name: str) -> str:
        return "out" if name == "out" else "in"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (2,) if name == "b" else (-1, 2)

    def get_tensor_dtype(self, name: str) -> type:
        return np.float32

    def create_execution_context(self) -> FakeContext:
        return FakeContext()


def fake_trt(loaded: list[bytes]) -> Any:
    class Logger:
        ERROR = 0

        def __init__(self, level: int) -> None:
            self.level = level

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> FakeEngine:
            loaded.append(data)
            return FakeEngine()

    return SimpleNamespace(
        __name__="tensorrt",
        __version__="10.16",
        Logger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        nptype=lambda dtype: dtype,
    )
