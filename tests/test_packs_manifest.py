"""The manifest: strict, self-consistent, and bound together by digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_pack

from splitcodec.errors import InvalidManifest
from splitcodec.packs.load import parse_manifest

Json = dict[str, Any]
Edit = Callable[[Json], object]


@pytest.fixture(scope="module")
def manifest_json(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("manifest") / "tiny"
    tiny_pack.write_tiny_pack(folder)
    return (folder / "manifest.json").read_text()


def test_codec_digest_is_sha256_of_canonical_json(manifest_json: str) -> None:
    raw = json.loads(manifest_json)
    canonical = json.dumps(raw["codec"], sort_keys=True, separators=(",", ":")).encode()
    assert raw["codec_digest"] == hashlib.sha256(canonical).hexdigest()


def test_prompt_digest_binds_codec_task_tensors_and_tail(manifest_json: str) -> None:
    raw = json.loads(manifest_json)
    task = raw["tasks"]["detect"]
    bound = {
        "codec_digest": raw["codec_digest"],
        "task": "detect",
        "tensors_sha256": task["prompt"]["sha256"],
        "tail_sha256": task["tail"]["sha256"],
    }
    canonical = json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()
    assert task["prompt"]["digest"] == hashlib.sha256(canonical).hexdigest()


def test_prompt_schema_names_the_graphs_of_each_tensor(manifest_json: str) -> None:
    schema = json.loads(manifest_json)["codec"]["prompt_schema"]
    assert schema["h_s_mean.conv0.weight"] == {
        "shape": [128, 4, 1, 1],
        "dtype": "float32",
        "graphs": ["quantizer", "decoder"],
    }
    assert schema["rate.scale_shift"] == {"shape": [3, 8], "dtype": "int32", "graphs": []}


def _set(*path: str, value: object) -> Edit:
    def edit(raw: Json) -> None:
        for key in path[:-1]:
            raw = raw[key]
        raw[path[-1]] = value

    return edit


BROKEN: dict[str, tuple[Edit, str]] = {
    "unknown key": (_set("extra", value=1), "extra"),
    "unknown codec key": (_set("codec", "extra", value=1), "extra"),
    "other version": (_set("format_version", value=2), "format_version"),
    "number as text": (_set("codec", "rate_points", value="3"), "rate_points"),
    "channels changed": (_set("codec", "feature_channels", value=7), "codec_digest"),
    "tail swapped": (_set("tasks", "detect", "tail", "sha256", value="0" * 64), "prompt digest"),
    "short sha256": (_set("codec", "tables", "sha256", value="ab"), "sha256"),
    "parent folder": (_set("codec", "tables", "file", value="codec/../../x.npz"), "tables.file"),
    "absolute path": (_set("codec", "tables", "file", value="/etc/x.npz"), "tables.file"),
    "hidden file": (_set("codec", "tables", "file", value="codec/.x.npz"), "tables.file"),
    "back slash": (_set("codec", "tables", "file", value="codec\\x.npz"), "tables.file"),
    "graph missing": (lambda raw: raw["codec"]["graphs"].pop("scale"), "scale"),
    "rate tensor missing": (lambda raw: raw["codec"]["prompt_schema"].pop("rate.gain_z"), "rate.gain_z"),
    "bound missing": (_set("codec", "exact_bound", value={}), "exact_bound"),
    "odd network size": (_set("tasks", "detect", "input", "height", value=100), "input.height"),
    "no task": (_set("tasks", value={}), "tasks"),
}


@pytest.mark.parametrize(("edit", "names"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_manifest_is_refused_and_names_the_field(manifest_json: str, edit: Edit, names: str) -> None:
    raw = json.loads(manifest_json)
    edit(raw)
    with pytest.raises(InvalidManifest, match=names):
        parse_manifest(json.dumps(raw).encode(), "pack x")


def test_scale_input_must_be_declared_exact(manifest_json: str) -> None:
    raw = json.loads(manifest_json)
    raw["codec"]["prompt_schema"]["g_a.conv0.bias"]["graphs"] = ["scale"]
    with pytest.raises(InvalidManifest, match=r"g_a\.conv0\.bias"):
        parse_manifest(json.dumps(raw).encode(), "pack x")


def test_one_file_for_two_purposes_is_refused(manifest_json: str) -> None:
    raw = json.loads(manifest_json)
    raw["codec"]["graphs"]["head"] = raw["codec"]["graphs"]["decoder"]
    with pytest.raises(InvalidManifest, match=r"named twice: \['codec/decoder\.onnx'\]"):
        parse_manifest(json.dumps(raw).encode(), "pack x")


@pytest.mark.parametrize(
    "text",
    ['{"name": 1, "name": 2}', "", "[]", "{", '{"a": NaN}', "\xff", "[" * 100_000],
    ids=["repeated key", "empty", "list", "cut", "nan", "not utf-8", "deep"],
)
def test_text_that_is_no_plain_manifest_is_refused(text: str) -> None:
    with pytest.raises(InvalidManifest):
        parse_manifest(text.encode("latin-1"), "pack x")


def test_written_manifest_parses_to_itself(manifest_json: str) -> None:
    manifest = parse_manifest(manifest_json.encode(), "pack x")
    assert parse_manifest(manifest.model_dump_json().encode(), "pack x") == manifest


def test_two_writes_give_the_same_bytes(tmp_path: Path, manifest_json: str) -> None:
    tiny_pack.write_tiny_pack(tmp_path / "again")
    assert (tmp_path / "again" / "manifest.json").read_text() == manifest_json
