"""docs/packs.md: its digest code works, and its tables name every key, file and limit there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny_pack
from pydantic import BaseModel

from splitcodec.packs.convention import InputConvention
from splitcodec.packs.files import MAX_BYTES, MAX_FILES, MIB
from splitcodec.packs.prompt_pack import FILES, PromptPackManifest
from splitcodec.packs.schema import (
    CodecSection,
    Manifest,
    MeasuredRow,
    PromptEntry,
    Provenance,
    TaskSection,
)
from splitcodec.placement import Fit
from splitcodec.prompts.schema import RATE_TENSORS, ExactConv, TensorSpec
from splitcodec.runtime import ENGINES
from splitcodec.tasks.postprocess import POSTPROCESSES

DOC = (Path(__file__).parent.parent / "docs" / "packs.md").read_text()
MODELS = (
    CodecSection,
    ExactConv,
    InputConvention,
    Manifest,
    MeasuredRow,
    PromptEntry,
    PromptPackManifest,
    Provenance,
    TaskSection,
    TensorSpec,
)


@pytest.mark.parametrize("model", MODELS)
def test_every_key_is_documented(model: type[BaseModel]) -> None:
    missing = [name for name in model.model_fields if f"`{name}`" not in DOC]
    assert not missing


def test_every_fit_and_postprocess_is_documented() -> None:
    assert not [name for name in (*get_args(Fit), *POSTPROCESSES) if f"| `{name}` |" not in DOC]


def test_rate_tensors_engines_and_limits_are_documented() -> None:
    assert not [name for name in (*RATE_TENSORS, *ENGINES) if f"`{name}`" not in DOC]
    assert f"more than {MAX_FILES} files" in DOC
    for kind, limit in MAX_BYTES.items():
        assert re.search(rf"`{re.escape(kind)}`(, `\.\w+`)* {limit // MIB} MiB", DOC), kind


def test_digest_code_of_the_page_agrees_with_the_library(tmp_path: Path) -> None:
    tiny_pack.write_tiny_pack(tmp_path / "tiny")
    manifest = json.loads((tmp_path / "tiny" / "manifest.json").read_text())
    code = next(block for block in re.findall(r"```python\n(.*?)```", DOC, re.S) if "def check" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["check"](manifest, "detect")
    manifest["codec"]["rate_points"] += 1
    assert not names["check"](manifest, "detect")


def test_imports_of_the_page_work() -> None:
    for block in re.findall(r"```python\n(.*?)```", DOC, re.S):
        exec(block, {})


def test_every_file_of_a_pack_is_documented(tmp_path: Path) -> None:
    tiny_pack.write_tiny_pack(tmp_path / "tiny")
    for path in (tmp_path / "tiny").rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path / "tiny").as_posix().replace("detect", "<task>")
            assert f"    {name} " in DOC, name


def test_every_file_of_a_prompt_pack_is_documented() -> None:
    assert not [name for name in FILES if f"    {name} " not in DOC]
