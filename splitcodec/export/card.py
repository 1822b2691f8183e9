"""The model card of a pack: what it is, what it was trained on, what it costs.

Measured rows are added after evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping

from splitcodec.export.build import CodecGraphs
from splitcodec.packs.schema import Provenance
from splitcodec.packs.write import TaskContents

EDGE_GRAPHS = ("head", "hyper_encoder", "scale", "quantizer")


def model_card(
    name: str,
    graphs: CodecGraphs,
    tasks: Mapping[str, TaskContents],
    provenance: Provenance,
    picture_macs: float,
) -> str:
    """Markdown text."""
    macs = graphs.macs_per_pixel
    edge = sum(macs[graph] for graph in EDGE_GRAPHS)
    lines = [
        f"# {name}",
        "",
        "A universal feature codec with task prompts: the edge sends compressed features, the cloud runs the "
        "task tail.",
        "",
        "## Cost",
        "Multiplications of the convolutions per pixel of the network input.",
        "",
        "| part | MAC/px |",
        "|---|---|",
        *(f"| {graph} | {value:.1f} |" for graph, value in macs.items()),
        f"| head without prompts (g_a) | {graphs.analysis_macs:.1f} |",
        f"| edge in all | {edge:.1f} |",
        *(f"| tail {task} | {contents.tail_macs_per_pixel:.1f} |" for task, contents in tasks.items()),
        f"| picture (evaluation only) | {picture_macs:.1f} |",
        "",
        "## Prompts",
        *(f"- {task}: {_parameters(contents):,} parameters" for task, contents in tasks.items()),
        "",
        "## Training",
        *(f"- teacher {t.name}: {t.origin}, {t.licence}; {t.changes}" for t in provenance.teachers),
        *(f"- data {d.name}: {d.items} photos from {d.origin}; terms: {d.licence}" for d in provenance.data),
        *(
            f"- stage {s.name}: {s.steps} steps of batch {s.batch}, {s.seconds / 60:.0f} minutes on "
            f"{s.machine}"
            for s in provenance.stages
        ),
    ]
    if provenance.notes:
        lines += ["", provenance.notes]
    return "\n".join([*lines, ""])


def _parameters(contents: TaskContents) -> int:
    """Learnt numbers of a prompt's convolutions."""
    return sum(array.size for name, array in contents.tensors.items() if not name.startswith("rate."))
