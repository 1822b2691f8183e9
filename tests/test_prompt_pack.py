"""Prompt packs: one task of a pack as one file, refused unless every part of it fits its codec."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tiny_pack
from conftest import Golden

from splitcodec.errors import (
    InexactScaleBranch,
    InvalidManifest,
    InvalidPrompt,
    PackDamaged,
    PackMismatch,
    PackNotFound,
    PackTooLarge,
    SplitcodecError,
    UnknownTask,
    UnsafePack,
)
from splitcodec.packs import Pack
from splitcodec.packs import files as pack_files
from splitcodec.packs.digest import prompt_digest
from splitcodec.packs.prompt_pack import (
    FILES,
    cut_prompt_pack,
    load_prompt_pack,
    prompt_pack_bytes,
    write_prompt_pack,
)
from splitcodec.packs.schema import CodecSection

Parts = dict[str, bytes]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return tiny_pack.write_three_tasks(tmp_path_factory.mktemp("prompt-pack") / "tiny")


@pytest.fixture
def parts(pack: Pack, tmp_path: Path) -> Parts:
    """The files of a sound prompt pack."""
    place = tmp_path / "sound.zip"
    write_prompt_pack(pack, "segment", place)
    with zipfile.ZipFile(place) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def codecs(pack: Pack) -> Mapping[str, CodecSection]:
    return {pack.codec_digest: pack.manifest.codec}


def sealed(parts: Parts) -> Parts:
    """The same files, with every digest of the manifest made right again."""
    manifest = json.loads(parts["manifest.json"])
    section = manifest["section"]
    section["prompt"]["sha256"] = hashlib.sha256(parts["prompt.safetensors"]).hexdigest()
    section["tail"]["sha256"] = hashlib.sha256(parts["tail.onnx"]).hexdigest()
    section["prompt"]["digest"] = prompt_digest(
        manifest["codec_digest"], manifest["task"], section["prompt"]["sha256"], section["tail"]["sha256"]
    )
    return {**parts, "manifest.json": json.dumps(manifest).encode()}


def zipped(place: Path, parts: Parts) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return place


def test_the_prompt_of_the_pack_arrives_whole(pack: Pack, tmp_path: Path) -> None:
    found = write_prompt_pack(pack, "segment", tmp_path / "segment.zip")
    prompt = pack.prompt("segment")
    assert found.prompt.digest == prompt.digest
    assert found.prompt.tensors.keys() == prompt.tensors.keys()
    assert all(np.array_equal(found.prompt.tensors[name], array) for name, array in prompt.tensors.items())
    assert found.tail == pack.tail_bytes("segment")
    assert found.manifest.section.labels == pack.task("segment").labels
    assert found.manifest.section.input == pack.task("segment").input
    with zipfile.ZipFile(tmp_path / "segment.zip") as archive:
        assert tuple(archive.namelist()) == FILES


def test_cutting_twice_gives_the_same_bytes(pack: Pack) -> None:
    assert cut_prompt_pack(pack, "detect") == cut_prompt_pack(pack, "detect")
    with pytest.raises(UnknownTask, match="detect"):
        cut_prompt_pack(pack, "dance")


def test_golden_file_is_read_and_written_as_ever(
    golden: Golden, pack: Pack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made, codec = cut_prompt_pack(pack, "classify"), pack.manifest.codec.model_dump_json(indent=1).encode()
    kept, section = golden("prompt_pack_v1.zip", made), golden("prompt_pack_v1_codec.json", codec)
    place = tmp_path / "golden.zip"
    place.write_bytes(kept)
    known = CodecSection.model_validate_json(section)
    found = load_prompt_pack(place, {known.digest: known})
    assert found.manifest.task == "classify"
    with zipfile.ZipFile(place) as archive:
        tensors, tail = archive.read("prompt.safetensors"), archive.read("tail.onnx")
    assert prompt_pack_bytes(found.manifest, tensors, tail) == kept


def test_the_pack_that_ships_can_be_cut(default_pack: Pack, tmp_path: Path) -> None:
    for task in default_pack.tasks:
        found = write_prompt_pack(default_pack, task, tmp_path / f"{task}.zip")
        assert found.prompt.digest == default_pack.prompt(task).digest
        assert len(found.manifest.measured) == sum(r.task == task for r in default_pack.manifest.measured)


def test_prompt_for_another_codec_is_refused(pack: Pack, default_pack: Pack, tmp_path: Path) -> None:
    write_prompt_pack(pack, "detect", tmp_path / "p.zip")
    with pytest.raises(PackMismatch, match=f"{pack.codec_digest[:16]}.*{default_pack.codec_digest[:16]}"):
        load_prompt_pack(tmp_path / "p.zip", codecs(default_pack))


def test_missing_file_says_how_to_make_one(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(PackNotFound, match="splitcodec pack prompt"):
        load_prompt_pack(tmp_path / "none.zip", codecs(pack))


def changed_tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Parts], Parts]:  # type: ignore[type-arg]
    """A maker of trouble: the tensors after `change`, with right digests around them."""

    def harm(parts: Parts) -> Parts:
        tensors = safetensors.numpy.load(parts["prompt.safetensors"])
        change(tensors)
        return sealed({**parts, "prompt.safetensors": safetensors.numpy.save(tensors)})

    return harm


def put(name: str, value: object) -> Callable[[dict[str, np.ndarray]], object]:  # type: ignore[type-arg]
    def change(tensors: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
        tensors[name][(0,) * tensors[name].ndim] = value

    return change


def manifest_with(**values: object) -> Callable[[Parts], Parts]:
    def harm(parts: Parts) -> Parts:
        manifest = {**json.loads(parts["manifest.json"]), **values}
        return {**parts, "manifest.json": json.dumps(manifest).encode()}

    return harm


HARM: dict[str, tuple[Callable[[Parts], Parts], type[SplitcodecError], str]] = {
    "a tensor is missing": (
        changed_tensors(lambda t: t.pop("g_s.conv0.bias")),
        InvalidPrompt,
        "lacks tensors.*g_s.conv0.bias",
    ),
    "a tensor too many": (
        changed_tensors(lambda t: t.update(extra=np.zeros(3, "f4"))),
        InvalidPrompt,
        "extra.*extra",
    ),
    "a tensor of another shape": (
        changed_tensors(lambda t: t.update({"g_s.conv0.bias": np.zeros(3, "f4")})),
        InvalidPrompt,
        r"g_s.conv0.bias is float32\[3\]",
    ),
    "a tensor of another type": (
        changed_tensors(lambda t: t.update({"rate.scale_shift": t["rate.scale_shift"].astype("f4")})),
        InvalidPrompt,
        "rate.scale_shift is float32",
    ),
    "NaN": (changed_tensors(put("g_a.conv0.weight", np.nan)), InvalidPrompt, "g_a.conv0.weight holds NaN"),
    "a fraction in the exact branch": (
        changed_tensors(put("h_s_scale.conv0.weight", 0.5)),
        InexactScaleBranch,
        "holds fractions",
    ),
    "a weight past the exact bound": (
        changed_tensors(put("h_s_scale.conv0.weight", 2.0**24)),
        InexactScaleBranch,
        "can reach",
    ),
    "no safetensors": (
        lambda parts: sealed({**parts, "prompt.safetensors": b"\x80\x04pickle"}),
        InvalidPrompt,
        "not a safetensors file",
    ),
    "a tail that is no graph": (
        lambda parts: sealed({**parts, "tail.onnx": b"not ONNX"}),
        UnsafePack,
        "tail.onnx",
    ),
    "changed bytes": (lambda parts: {**parts, "tail.onnx": b"x"}, PackDamaged, "tail.onnx has sha256"),
    "a file is missing": (
        lambda parts: {name: data for name, data in parts.items() if name != "tail.onnx"},
        UnsafePack,
        "a prompt pack holds",
    ),
    "a file too many": (lambda parts: {**parts, "more.onnx": b""}, UnsafePack, "a prompt pack holds"),
    "a kind of file that no pack holds": (lambda parts: {**parts, "run.py": b""}, UnsafePack, "run.py"),
    "no manifest": (
        lambda parts: {name: data for name, data in parts.items() if name != "manifest.json"},
        PackDamaged,
        "lacks manifest.json",
    ),
    "a manifest of a pack": (manifest_with(kind="pack"), InvalidManifest, "kind"),
    "a newer format": (manifest_with(format_version=2), InvalidManifest, "format_version"),
    "an unknown key": (manifest_with(surprise=1), InvalidManifest, "surprise"),
    "the name of another task": (manifest_with(task="detect"), InvalidManifest, "the contents give"),
}


@pytest.mark.parametrize("case", HARM)
def test_harmed_prompt_pack_is_refused(pack: Pack, parts: Parts, tmp_path: Path, case: str) -> None:
    harm, error, words = HARM[case]
    place = zipped(tmp_path / "harmed.zip", harm(parts))
    with pytest.raises(error, match=words):
        load_prompt_pack(place, codecs(pack))


def test_part_over_its_limit_is_refused(
    pack: Pack, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pack_files.MAX_BYTES, ".safetensors", len(parts["prompt.safetensors"]) - 1)
    with pytest.raises(PackTooLarge, match=r"prompt.safetensors has \d+ bytes; the limit is"):
        load_prompt_pack(zipped(tmp_path / "large.zip", parts), codecs(pack))


def test_bytes_that_are_no_zip_are_refused(pack: Pack, tmp_path: Path) -> None:
    place = tmp_path / "p.zip"
    place.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(PackDamaged, match="zip"):
        load_prompt_pack(place, codecs(pack))
