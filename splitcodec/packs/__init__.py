"""The pack format: manifest, graphs, tables, prompts and tails in one folder, verified before use."""

from splitcodec.packs.convention import InputConvention
from splitcodec.packs.digest import wire_digest
from splitcodec.packs.load import DEFAULT_PACK, Pack, load_pack
from splitcodec.packs.schema import (
    Manifest,
    MeasuredRow,
    Provenance,
    TaskSection,
    TeacherOrigin,
    TrainingData,
    TrainingStage,
)

__all__ = [
    "DEFAULT_PACK",
    "InputConvention",
    "Manifest",
    "MeasuredRow",
    "Pack",
    "Provenance",
    "TaskSection",
    "TeacherOrigin",
    "TrainingData",
    "TrainingStage",
    "load_pack",
    "wire_digest",
]
