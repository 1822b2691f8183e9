"""Networks cut in two at a named tensor, from an ONNX file or from a torch module."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from splitcodec.errors import TrainingError

if TYPE_CHECKING:
    import onnx

DEFAULT_OUTPUT = "logits"


class NamedOutputs(nn.Module):
    """A network whose outputs come back under their names: from a tensor, a sequence or a mapping."""

    def __init__(self, graph: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.graph = graph
        self.names = names

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        values = self.graph(x)
        if isinstance(values, dict):
            return {name: values[name] for name in self.names}
        return dict(zip(self.names, values if isinstance(values, (list, tuple)) else (values,), strict=True))


def load_onnx(path: Path) -> onnx.ModelProto:
    """A teacher's file; TrainingError if it is not there or no ONNX file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path))
    except OSError as error:
        raise TrainingError(
            f"there is no teacher {path} that can be read ({error.strerror}); give --teacher FILE.onnx, or "
            "a torch teacher's package.module:function with --split"
        ) from error
    except DecodeError as error:
        raise TrainingError(f"{path} is no ONNX file ({error}); give --teacher FILE.onnx") from error


def cut_onnx(path: Path, source: str, outputs: tuple[str, ...]) -> NamedOutputs:
    """The part of an ONNX graph between tensor `source` and the named outputs, as a torch module."""
    import onnx
    from onnx.utils import Extractor
    from onnx2torch import convert

    graph = onnx.shape_inference.infer_shapes(load_onnx(path))  # names every inner tensor
    model = Extractor(graph).extract_model([source], list(outputs))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.onnx"
        onnx.save(model, str(file))
        return NamedOutputs(_with_fixed_upsampling(convert(str(file))), outputs)


class Upsample2(nn.Module):
    """Nearest-neighbour doubling; takes and ignores the scales that ONNX Resize is given as a tensor."""

    def forward(self, x: Tensor, scales: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _with_fixed_upsampling(graph: fx.GraphModule) -> fx.GraphModule:
    """Replace Resize by a constant factor 2: a scale read from a tensor cannot be traced for export."""
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or type(graph.get_submodule(node.target)).__name__ != "OnnxResize":
            continue
        values = graph.get_buffer(node.kwargs["scales"].target).tolist()
        if values != [1.0, 1.0, 2.0, 2.0]:
            raise TrainingError(
                f"{node.target} resizes by {values}; only doubling of height and width is supported"
            )
        graph.set_submodule(node.target, Upsample2())
    return graph


def cut_torch(module: nn.Module, split: str, example: Tensor) -> tuple[nn.Module, NamedOutputs]:
    """Submodule `split`'s output parts the module: image -> that tensor, and that tensor -> outputs by name.

    example: an image the module takes. Both halves are copies. TrainingError if the module cannot be traced,
    has no such submodule, or if something else than that one tensor crosses the cut.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(module).eval())
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{type(module).__name__} cannot be traced ({error}); give a module whose forward has no control "
            "flow that depends on data"
        ) from error
    crossing = [node for node in traced.graph.nodes if node.op == "call_module" and node.target == split]
    if not crossing:  # a container is not called in the trace: its last inner layer is
        crossing = [n for n in traced.graph.nodes if _lies_in(n, split)][-1:]
    if len(crossing) != 1:
        children = sorted({name for name, _ in module.named_children()})
        raise TrainingError(f"there are {len(crossing)} calls of {split!r}; submodules are {children}")
    head = _up_to(traced, crossing[0])
    tail = _behind(traced, crossing[0])
    with torch.no_grad():
        values = tail(head(example))
    names: tuple[str, ...] = tuple(values) if isinstance(values, dict) else (DEFAULT_OUTPUT,)
    return head, NamedOutputs(tail, names)


def _lies_in(node: fx.Node, name: str) -> bool:
    """True if a node was recorded inside the submodule of this name."""
    stack = node.meta.get("nn_module_stack") or {}
    return any(path == name for path, _ in stack.values()) or str(node.target).startswith(f"{name}.")


def _up_to(traced: fx.GraphModule, node: fx.Node) -> fx.GraphModule:
    graph = fx.Graph()
    seen: dict[fx.Node, fx.Node] = {}
    for old in traced.graph.nodes:
        seen[old] = graph.node_copy(old, lambda n: seen[n])
        if old is node:
            break
    graph.output(seen[node])
    return _without_dead_code(fx.GraphModule(traced, graph))


def _behind(traced: fx.GraphModule, node: fx.Node) -> fx.GraphModule:
    graph = fx.Graph()
    seen: dict[fx.Node, fx.Node] = {node: graph.placeholder("feature")}
    before = True
    for old in traced.graph.nodes:
        if before:
            before = old is not node
            if before and old.op == "get_attr":
                seen[old] = graph.node_copy(old)
            continue
        lost = [source.name for source in old.all_input_nodes if source not in seen]
        if lost:
            raise TrainingError(
                f"{old.name} behind the split {node.target!r} also reads {lost} from before it; "
                "split where a single tensor crosses"
            )
        seen[old] = graph.node_copy(old, lambda n: seen[n])
    return _without_dead_code(fx.GraphModule(copy.deepcopy(traced), graph))


def _without_dead_code(module: fx.GraphModule) -> fx.GraphModule:
    module.graph.eliminate_dead_code()
    module.recompile()
    return module
