"""Loading a pack: everything is verified before use, and nothing outside the pack is ever read."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from tiny_pack import folder

from splitcodec.errors import (
    InvalidManifest,
    PackDamaged,
    PackError,
    PackNotFound,
    PackTooLarge,
    UnknownTask,
    UnsafePack,
)
from splitcodec.packs import DEFAULT_PACK, load_pack
from splitcodec.packs import files as pack_files
from splitcodec.packs.write import write_pack

__all__ = ["folder"]


def zipped(folder: Path) -> Path:
    place = folder.with_suffix(".zip")
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return place


def test_what_was_written_is_loaded(folder: Path) -> None:
    contents = tiny_pack.contents()
    pack = load_pack(folder)
    assert pack.name == "tiny"
    assert pack.tasks == ("detect",)
    assert pack.graph_bytes("scale") == contents.graphs["scale"]
    assert pack.tail_bytes("detect") == contents.tasks["detect"].tail
    assert np.array_equal(pack.tables.counts, contents.tables.counts)
    tensors = pack.prompt("detect").tensors
    assert tensors.keys() == contents.tasks["detect"].tensors.keys()
    assert all(
        np.array_equal(tensors[name], array) for name, array in contents.tasks["detect"].tensors.items()
    )
    assert pack.wire_digest.hex() == pack.codec_digest[:16]


def test_zip_holds_the_same_pack(folder: Path) -> None:
    pack, other = load_pack(folder), load_pack(zipped(folder))
    assert other.manifest == pack.manifest
    assert other.graph_bytes("head") == pack.graph_bytes("head")


def test_unknown_task_lists_the_tasks(folder: Path) -> None:
    pack = load_pack(folder)
    for ask in (pack.task, pack.prompt, pack.tail_bytes):
        with pytest.raises(UnknownTask, match=r"segment.*detect"):
            ask("segment")


def test_missing_pack(tmp_path: Path) -> None:
    with pytest.raises(PackNotFound, match="nowhere"):
        load_pack(tmp_path / "nowhere")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link(folder: Path) -> None:
    target = folder / "codec" / "head.onnx"
    outside = folder.parent / "outside.onnx"
    shutil.move(target, outside)
    target.symlink_to(outside)


def _folder_link(folder: Path) -> None:
    shutil.move(folder / "codec", folder.parent / "codec")
    (folder / "codec").symlink_to(folder.parent / "codec", target_is_directory=True)


HOSTILE: dict[str, tuple[Callable[[Path], object], type[PackError]]] = {
    "graph flipped": (lambda f: _flip(f / "codec/decoder.onnx"), PackDamaged),
    "tables flipped": (lambda f: _flip(f / "codec/tables.npz"), PackDamaged),
    "prompt flipped": (lambda f: _flip(f / "prompts/detect.safetensors"), PackDamaged),
    "tail flipped": (lambda f: _flip(f / "tails/detect.onnx"), PackDamaged),
    "graph missing": (lambda f: (f / "codec/scale.onnx").unlink(), PackDamaged),
    "manifest missing": (lambda f: (f / "manifest.json").unlink(), PackDamaged),
    "prompt manifest missing": (lambda f: (f / "prompts/detect.json").unlink(), PackDamaged),
    "unknown graph": (lambda f: (f / "codec/more.onnx").write_bytes(b"x"), UnsafePack),
    "script": (lambda f: (f / "setup.py").write_bytes(b"x"), UnsafePack),
    "pickle": (lambda f: (f / "codec/tables.pkl").write_bytes(b"x"), UnsafePack),
    "hidden file": (lambda f: (f / ".hidden.json").write_bytes(b"{}"), UnsafePack),
    "link to a file": (_link, UnsafePack),
    "link to a folder": (_folder_link, UnsafePack),
    "named pipe": (lambda f: os.mkfifo(f / "codec/pipe.onnx"), UnsafePack),
}


@pytest.mark.parametrize(("harm", "error"), HOSTILE.values(), ids=HOSTILE.keys())
def test_harmed_pack_is_refused(folder: Path, harm: Callable[[Path], object], error: type[PackError]) -> None:
    harm(folder)
    with pytest.raises(error):
        load_pack(folder)


def test_file_over_its_limit_is_refused_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pack_files.MAX_BYTES, ".onnx", 100)
    for place in (folder, zipped(folder)):
        with pytest.raises(PackTooLarge, match="limit is 100"):
            load_pack(place)


def test_zip_entry_that_inflates_past_its_claim_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pack_files.MAX_BYTES, ".json", 1000)
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"0" * 100_000)
    data = place.read_bytes()
    claim = (100_000).to_bytes(4, "little")
    assert data.count(claim) == 2  # local header and central directory
    place.write_bytes(data.replace(claim, (10).to_bytes(4, "little")))
    with pytest.raises(PackError):
        load_pack(place)


@pytest.mark.parametrize(
    "name", ["../manifest.json", "/manifest.json", "a/../manifest.json", ".x/manifest.json"]
)
def test_zip_entry_outside_the_pack_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / "slip.zip"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr(name, b"{}")
    with pytest.raises(UnsafePack):
        load_pack(place)


def test_bytes_that_are_no_zip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pack.zip").write_bytes(b"not a zip")
    with pytest.raises(PackDamaged):
        load_pack(tmp_path / "pack.zip")


def test_file_changed_after_loading_is_noticed(folder: Path) -> None:
    pack = load_pack(folder)
    _flip(folder / "codec/head.onnx")
    _link_target = folder / "tails/detect.onnx"
    _link_target.unlink()
    _link_target.symlink_to(folder / "codec/scale.onnx")
    with pytest.raises(PackDamaged, match="sha256"):
        pack.graph_bytes("head")
    with pytest.raises(UnsafePack):
        pack.tail_bytes("detect")


def test_prompt_manifest_must_agree_with_the_manifest(folder: Path) -> None:
    write_pack(folder.parent / "two", tiny_pack.with_task("other", seed=7))
    two = folder.parent / "two" / "prompts"
    shutil.copy(two / "other.json", two / "detect.json")
    with pytest.raises(InvalidManifest, match=r"detect\.json"):
        load_pack(folder.parent / "two")


def test_every_file_of_the_default_pack_is_the_one_its_manifest_names() -> None:
    pack = load_pack("default")
    for name, entry in pack.manifest.codec.graphs.items():
        assert hashlib.sha256((DEFAULT_PACK / entry.file).read_bytes()).hexdigest() == entry.sha256, name
    assert "detect" in pack.tasks
