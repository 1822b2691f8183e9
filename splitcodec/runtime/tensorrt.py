"""Native TensorRT sessions with prompts as network inputs.

`tensorrt` comes with JetPack and for data centres, `tensorrt_rtx` from the index for RTX cards; both share
the Builder, OnnxParser and Runtime API used here. Building with TensorRT-RTX needs no GPU; running always
does. Engines are never part of a pack: they are built here and cached for this GPU, driver and version.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from importlib import import_module
from threading import Lock
from typing import Any, Final

import numpy as np

from splitcodec.errors import GraphFailed, RuntimeUnavailable
from splitcodec.runtime.constants import ConstantCache
from splitcodec.runtime.cuda import DeviceBuffer, load_cuda
from splitcodec.runtime.engine_cache import CACHE_VARIABLE, cache_folder, keep_engine, read_engine
from splitcodec.runtime.parts import joined, parts_of
from splitcodec.runtime.session import Array, check_feed
from splitcodec.runtime.shapes import SizeRange

log = logging.getLogger(__name__)
PACKAGES: Final = ("tensorrt", "tensorrt_rtx")


def load_tensorrt() -> Any:
    """The first of the two packages that imports; raises RuntimeUnavailable with both reasons."""
    reasons = []
    for package in PACKAGES:
        try:
            module = import_module(package)
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{package}: {error}")
            continue
        if hasattr(module, "OnnxParser"):
            return module
        reasons.append(f"{package}: it has no OnnxParser")
    raise RuntimeUnavailable(
        f"TensorRT cannot be imported ({'; '.join(reasons)}); on Jetson install python3-libnvinfer, "
        "elsewhere '.[cuda]' from the source folder"
    )


def why_not() -> str | None:
    """Why native TensorRT cannot run here, or None if package, driver and GPU are there."""
    try:
        load_cuda()  # first: without a GPU the package, which takes much memory, is never imported
        load_tensorrt()
    except RuntimeUnavailable as error:
        return str(error)
    return None


def parse_network(trt: Any, builder: Any, logger: Any, model: bytes, name: str) -> tuple[Any, Any]:
    """The network of an ONNX model and its parser, which must outlive it.

    Raises GraphFailed with every parser error.
    """
    flags = trt.NetworkDefinitionCreationFlag
    strong = getattr(flags, "STRONGLY_TYPED", None)  # float32 stays float32: no silent half precision
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise GraphFailed(f"{trt.__name__} {trt.__version__} cannot parse graph {name}: {errors}")
    return network, parser


def build_engine(trt: Any, model: bytes, name: str, sizes: SizeRange = SizeRange()) -> bytes:  # noqa: B008
    """A serialized engine for an ONNX model whose prompts stay inputs.

    Raises GraphFailed if TensorRT refuses it.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network, parser = parse_network(trt, builder, logger, model, name)
    config = builder.create_builder_config()
    if config.get_flag(trt.BuilderFlag.TF32):
        config.clear_flag(trt.BuilderFlag.TF32)  # ten mantissa bits would be visible in the features
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if min(shape, default=0) < 0:
            profile.set_shape(tensor.name, *sizes.profile(tensor.name, shape))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    del parser
    if engine is None:
        raise GraphFailed(
            f"{trt.__name__} {trt.__version__} cannot build graph {name}; its log on stderr says why"
        )
    return bytes(engine)


def engine_key(trt: Any, model: bytes, sizes: SizeRange, driver: int, capability: str) -> str:
    """Name of a cached engine: SHA-256 over graph and prompt inputs, sizes, TensorRT, driver, GPU kind."""
    parts = [
        hashlib.sha256(model).hexdigest(),
        [sizes.batch, sizes.height, sizes.width],
        [trt.__name__, trt.__version__, driver, capability],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class TensorRTSession:
    """One TensorRT engine and one execution context; prompt tensors stay on the GPU once they are there.

    An engine takes the sizes it was built for; a larger batch goes through it in several runs.
    """

    def __init__(self, model: bytes, name: str, sizes: SizeRange = SizeRange()) -> None:  # noqa: B008
        """Builds the engine or takes it from the cache.

        Raises RuntimeUnavailable, or GraphFailed if it is refused.
        """
        trt = load_tensorrt()
        self._cuda = load_cuda()
        self._name, self._package = name, str(trt.__name__)
        self._lock = Lock()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._load(trt, model, sizes)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise GraphFailed(
                f"{self._package} gives no context for graph {name}; the GPU may be out of memory"
            )
        tensors = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {t: self._engine.get_tensor_mode(t) == trt.TensorIOMode.INPUT for t in tensors}
        self._inputs = frozenset(t for t in tensors if is_input[t])
        self._outputs = tuple(t for t in tensors if not is_input[t])
        self._batched = frozenset(t for t in self._inputs if self._is_batched(t))
        self._most = sizes.batch[-1]
        self._dtypes = {t: np.dtype(trt.nptype(self._engine.get_tensor_dtype(t))) for t in tensors}
        self._stream = self._cuda.create_stream()
        self._constants = ConstantCache(self._cuda.to_device)
        self._buffers: dict[str, DeviceBuffer] = {}

    def _load(self, trt: Any, model: bytes, sizes: SizeRange) -> Any:
        key = engine_key(trt, model, sizes, self._cuda.driver_version(), self._cuda.compute_capability())
        kept = self._kept(key)
        engine = self._runtime.deserialize_cuda_engine(kept) if kept else None
        if engine is None:
            built = build_engine(trt, model, self._name, sizes)
            self._keep(key, built)
            engine = self._runtime.deserialize_cuda_engine(built)
        if engine is None:
            raise GraphFailed(
                f"{self._package} cannot load its own engine of graph {self._name}; check the driver"
            )
        return engine

    def _kept(self, key: str) -> bytes | None:
        try:
            return read_engine(cache_folder(), key)
        except OSError:  # no home folder; `_keep` tells
            return None

    def _keep(self, key: str, built: bytes) -> None:
        """Keep the engine for the next start; without a place for it this run goes on with what was built."""
        try:
            keep_engine(cache_folder(), key, built)
        except OSError as error:
            log.warning(
                "the engine of graph %s cannot be kept (%s) and is built anew at every start; set %s to a "
                "folder that can be written",
                self._name,
                error,
                CACHE_VARIABLE,
            )

    def _is_batched(self, tensor: str) -> bool:
        return tuple(self._engine.get_tensor_shape(tensor))[:1] == (-1,)

    @property
    def name(self) -> str:
        return self._name

    @property
    def engine(self) -> str:
        return self._package

    @property
    def placement(self) -> Mapping[str, int]:
        return {self._package: int(self._engine.num_layers)}

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._inputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        check_feed(self._name, self._inputs, inputs)
        parts = parts_of(self._name, inputs, self._batched, self._most)
        if len(parts) > 1 and not all(map(self._is_batched, self._outputs)):
            raise GraphFailed(
                f"graph {self._name} takes {self._most} rows at most: its outputs have no batch; send fewer"
            )
        return joined([self._run_once(part) for part in parts])

    def _run_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:  # one execution context, one set of buffers
            held = [self._bind_input(name, array) for name, array in inputs.items()]
            outputs = {name: self._bind_output(name) for name in self._outputs}
            if not self._context.execute_async_v3(self._stream):
                raise GraphFailed(f"graph {self._name} failed in {self._package}; its log on stderr says why")
            for name, array in outputs.items():
                self._cuda.download(self._buffers[name], array, self._stream)
            self._cuda.synchronize(self._stream)
            del held
            return outputs

    def _bind_input(self, name: str, array: Array) -> Array:
        """Gives an input to the context; the returned array must live until the stream is done."""
        if array.dtype != self._dtypes[name] or not self._context.set_input_shape(name, array.shape):
            raise GraphFailed(f"graph {self._name} takes no {array.dtype}{list(array.shape)} as {name}")
        if not array.flags.writeable:
            self._context.set_tensor_address(name, self._constants.get(array).pointer)
            return array
        contiguous = np.ascontiguousarray(array)
        buffer = self._buffer(name, contiguous.nbytes)
        self._cuda.upload(contiguous, buffer, self._stream)
        self._context.set_tensor_address(name, buffer.pointer)
        return contiguous

    def _bind_output(self, name: str) -> Array:
        array = np.empty(tuple(self._context.get_tensor_shape(name)), dtype=self._dtypes[name])
        self._context.set_tensor_address(name, self._buffer(name, array.nbytes).pointer)
        return array

    def _buffer(self, name: str, num_bytes: int) -> DeviceBuffer:
        """The buffer of a tensor, grown when it is too small."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.num_bytes < num_bytes:
            buffer = self._buffers[name] = self._cuda.allocate(num_bytes)
        return buffer


__all__ = ["TensorRTSession", "build_engine", "engine_key", "load_tensorrt", "parse_network", "why_not"]
