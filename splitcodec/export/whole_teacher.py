"""An untouched torch teacher as an ONNX file, for `splitcodec eval --teacher`: the yardstick of its pack."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from splitcodec.errors import TrainingError
from splitcodec.export.to_onnx import ExportInput, check_export, to_onnx
from splitcodec.teacher_inputs import TEACHER_INPUTS
from splitcodec.training.teacher import Teacher, TorchTeacher, open_teacher

EXAMPLE = (2, 160, 96)


class WholeTeacher(nn.Module):
    """images (N, 3, H, W) as the evaluation feeds them -> the teacher's outputs."""

    def __init__(self, teacher: Teacher, postprocess: str) -> None:
        super().__init__()
        self.teacher, self.inputs = teacher, ["images"]
        self.takes = TEACHER_INPUTS[postprocess]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        values = self.teacher.tail(self.teacher.split((images - self.takes.offset) / self.takes.scale))
        return tuple(values[name] for name in self.teacher.spec.outputs)


def export_teacher(source: TorchTeacher, postprocess: str, out: Path) -> float:
    """Write the file; returns its gate's result. ExportMismatch if it does not give torch's numbers."""
    teacher = open_teacher(source)
    if teacher.spec.anchored != (postprocess == "retinanet"):
        outputs = ", ".join(teacher.spec.outputs)
        raise TrainingError(f"{source.function} gives {outputs}, which are not for {postprocess}")
    graph = WholeTeacher(teacher, postprocess)
    batch, height, width = EXAMPLE
    torch.manual_seed(4)
    example = torch.rand(batch, 3, height, width) * 255.0 * graph.takes.scale + graph.takes.offset
    dims = {
        0: Dim("batch", max=64),
        2: 32 * Dim("cell_rows", min=1, max=64),
        3: 32 * Dim("cell_columns", min=1, max=64),
    }
    data = to_onnx(graph, [ExportInput("images", example, dims)], list(teacher.spec.outputs))
    gap = check_export("teacher", data, graph, {"images": example.numpy()})
    out.write_bytes(data)
    return gap
