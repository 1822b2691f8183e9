"""ONNX Runtime sessions: the CPU on every machine, CUDA and TensorRT through onnxruntime-gpu."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from splitcodec.errors import GraphFailed, RuntimeUnavailable, SettingsError
from splitcodec.runtime.constants import ConstantCache
from splitcodec.runtime.session import MAX_THREADS, Array, check_feed

PROVIDERS: Final = {
    "ort-cpu": "CPUExecutionProvider",
    "ort-cuda": "CUDAExecutionProvider",
    "ort-tensorrt": "TensorrtExecutionProvider",
}
NAMES: Final = {
    "ort-cpu": "onnxruntime-cpu",
    "ort-cuda": "onnxruntime-cuda",
    "ort-tensorrt": "onnxruntime-tensorrt",
}
_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "ort-cpu": {},
    "ort-cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    "ort-tensorrt": {},
}


def load_onnxruntime() -> Any:
    """The onnxruntime module; raises RuntimeUnavailable with the install line if it is not there."""
    try:
        module = import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeUnavailable(
            f"onnxruntime cannot be imported ({error}); in the source folder run pip install '.[cpu]' or "
            "'.[cuda]'"
        ) from error
    if not hasattr(module, "InferenceSession"):
        raise RuntimeUnavailable(
            "the installed onnxruntime is damaged, as happens when onnxruntime and onnxruntime-gpu were "
            "both installed "
            "and one was removed; reinstall the one you want"
        )
    return module


def why_not(engine: str) -> str | None:
    """Why an ort-* engine cannot run here, or None if its provider is installed."""
    try:
        have = load_onnxruntime().get_available_providers()
    except RuntimeUnavailable as error:
        return str(error)
    if PROVIDERS[engine] in have:
        return None
    return f"the installed onnxruntime has no {PROVIDERS[engine]} (it has {have}); install '.[cuda]'"


class OrtSession:
    """One ONNX Runtime session. Prompt tensors are ordinary inputs, so one session serves all prompts."""

    def __init__(
        self, model: bytes, name: str, engine: str = "ort-cpu", threads: int = 1, exact: bool = False
    ) -> None:
        """Loads an ONNX model.

        threads: intra-op threads. exact: for the scale graph, keeps its arithmetic as written (no graph
        rewriting) and allows the CPU only. Raises RuntimeUnavailable if the engine is not there or silently
        fell back to another, GraphFailed if it refuses the model, SettingsError for threads outside 1..256.
        """
        if exact and engine != "ort-cpu":
            raise RuntimeUnavailable(f"graph {name} must run on ort-cpu to be exact, {engine} was asked for")
        if (reason := why_not(engine)) is not None:
            raise RuntimeUnavailable(f"engine {engine} cannot run graph {name}: {reason}")
        self._ort = load_onnxruntime()
        self._name = name
        self._engine = engine
        providers: list[Any] = [(PROVIDERS[engine], _OPTIONS[engine])]
        if engine != "ort-cpu":
            providers.append(PROVIDERS["ort-cpu"])  # shape arithmetic runs there
        options = _options(self._ort, threads, exact)
        try:
            self._session = self._ort.InferenceSession(model, options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise GraphFailed(f"ONNX Runtime refuses graph {name}: {error}; export it again") from error
        if (ran := self._session.get_providers()[0]) != PROVIDERS[engine]:
            raise RuntimeUnavailable(
                f"{PROVIDERS[engine]} was asked for graph {name} but ONNX Runtime fell back to {ran}; "
                "check the driver, CUDA and cuDNN with `splitcodec doctor`"
            )
        self._inputs = frozenset(value.name for value in self._session.get_inputs())
        self._outputs = tuple(value.name for value in self._session.get_outputs())
        self._device = "cpu" if engine == "ort-cpu" else "cuda"
        self._constants = ConstantCache(self._to_device)

    @property
    def name(self) -> str:
        return self._name

    @property
    def engine(self) -> str:
        return NAMES[self._engine]

    @property
    def placement(self) -> Mapping[str, int]:
        try:
            parts = self._session.get_provider_graph_assignment_info()
        except Exception:  # not recorded by this version: nothing to tell
            return {}
        counts: Counter[str] = Counter()
        for part in parts:
            counts[part.ep_name] += len(part.get_nodes())
        return dict(counts)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._inputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        check_feed(self._name, self._inputs, inputs)
        try:
            values = (
                self._session.run(None, dict(inputs)) if self._device == "cpu" else self._run_bound(inputs)
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise GraphFailed(f"graph {self._name} failed in {self.engine}: {error}") from error
        return dict(zip(self._outputs, values, strict=True))

    def _run_bound(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Runs with inputs bound on the device; read-only ones are uploaded once."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            value = self._to_device(array) if array.flags.writeable else self._constants.get(array)
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        values: list[Array] = binding.copy_outputs_to_cpu()
        return values

    def _to_device(self, array: Array) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)


def _options(ort: Any, threads: int, exact: bool) -> Any:
    if not 1 <= threads <= MAX_THREADS:
        raise SettingsError(f"threads is {threads}; give 1 to {MAX_THREADS}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL if exact else level.ORT_ENABLE_ALL
    # Spinning threads would take the second core from the rest of a small edge box.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if exact:
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "0")
    options.log_severity_level = 3
    return options
