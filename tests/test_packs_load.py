"""Loading a pack: everything is verified before use, and nothing outside the pack is ever read."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from onnx import helper

from splitcodec.entropy import SymbolTables
from splitcodec.errors import (
    InexactScaleBranch,
    InvalidManifest,
    InvalidPrompt,
    PackDamaged,
    PackError,
    PackNotFound,
    PackTooLarge,
    UnknownTask,
    UnsafePack,
)
from splitcodec.packs import DEFAULT_PACK, MeasuredRow, load_pack
from splitcodec.packs import files as pack_files
from splitcodec.packs.write import PackContents, with_measured, write_pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_pack.write_tiny_pack(tmp_path / "tiny")
    return tmp_path / "tiny"


def zipped(folder: Path) -> Path:
    place = folder.with_suffix(".zip")
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return place


def test_the_old_pack_stays_when_the_new_one_cannot_be_put_in_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(PackError, match=r"cannot be put at .*error.*the earlier one is there again"):
        write_pack(folder, replace(tiny_pack.contents(), name="other"))
    assert load_pack(folder).name == "tiny"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    with pytest.raises(PackError, match="there was none before"):
        write_pack(folder.with_name("fresh"), tiny_pack.contents())


def test_the_old_pack_stays_when_it_cannot_make_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(source) == folder:  # where a file system is mounted, say
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(PackError, match=r"cannot be put at .*busy"):
        write_pack(folder, replace(tiny_pack.contents(), name="other"))
    assert load_pack(folder).name == "tiny"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_the_old_pack_is_kept_and_named_when_it_cannot_go_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            folder.mkdir()  # another writer is first, so that neither fits any more
            (folder / "theirs").touch()
        real(source, target)

    monkeypatch.setattr("splitcodec.packs.write.os.rename", rename)
    with pytest.raises(PackError, match="the earlier one is kept at ") as raised:
        write_pack(folder, replace(tiny_pack.contents(), name="other"))
    kept = re.search(r"kept at (.*?/old) ", str(raised.value))
    assert kept is not None
    assert load_pack(kept[1]).name == "tiny"


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


def _contents(**changes: object) -> PackContents:
    return replace(tiny_pack.contents(), **changes)  # type: ignore[arg-type]


def _with_tensors(**tensors: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None) -> PackContents:
    task = tiny_pack.contents().tasks["detect"]
    merged = {**task.tensors, **{name.replace("__", "."): array for name, array in tensors.items()}}
    kept = {name: array for name, array in merged.items() if array is not None}
    return _contents(tasks={"detect": replace(task, tensors=kept)})


def test_scale_weights_past_the_exact_bound_are_refused(tmp_path: Path) -> None:
    weight = np.array(tiny_pack.prompt_tensors()["h_s_scale.conv0.weight"])
    weight[3] = 140_000  # 4 inputs * 140,000 * 31 > 2**24
    with pytest.raises(
        InexactScaleBranch, match=r"h_s_scale\.conv0 can reach 1736\d{4}, the limit is 16777216"
    ):
        write_pack(tmp_path / "p", _with_tensors(h_s_scale__conv0__weight=weight))
    assert not (tmp_path / "p").exists()


def test_fractions_in_the_scale_branch_are_refused(tmp_path: Path) -> None:
    bias = np.array(tiny_pack.prompt_tensors()["h_s_scale.conv0.bias"]) + np.float32(0.5)
    with pytest.raises(InexactScaleBranch, match="fractions"):
        write_pack(tmp_path / "p", _with_tensors(h_s_scale__conv0__bias=bias))


def test_tensor_the_graphs_need_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match=r"g_s\.conv0\.bias"):
        write_pack(tmp_path / "p", _with_tensors(g_s__conv0__bias=None))


def test_second_task_must_fit_the_schema_of_the_first(tmp_path: Path) -> None:
    contents = tiny_pack.with_task("other", seed=3)
    tensors = dict(contents.tasks["other"].tensors)
    tensors["g_a.conv0.bias"] = np.full(tiny_pack.CY, np.nan, np.float32)
    tasks = {**contents.tasks, "other": replace(contents.tasks["other"], tensors=tensors)}
    with pytest.raises(InvalidPrompt, match="NaN"):
        write_pack(tmp_path / "p", replace(contents, tasks=tasks))


def test_tail_may_take_the_feature_alone(tmp_path: Path) -> None:
    task = replace(tiny_pack.contents().tasks["detect"], tail=tiny_pack.head_graph())
    with pytest.raises(InvalidManifest, match="feature alone"):
        write_pack(tmp_path / "p", _contents(tasks={"detect": task}))


def test_picture_may_be_held_and_must_make_a_picture_of_the_feature(folder: Path, tmp_path: Path) -> None:
    assert load_pack(folder).picture_bytes() is None
    good = identity_graph("feature", "picture")
    manifest = write_pack(tmp_path / "with", replace(tiny_pack.contents(), picture=good))
    held = load_pack(tmp_path / "with")
    assert held.picture_bytes() == good
    assert held.codec_digest == load_pack(folder).codec_digest
    assert "picture.onnx" in manifest.files()
    with pytest.raises(InvalidManifest, match="takes feature and gives picture"):
        write_pack(tmp_path / "bad", replace(tiny_pack.contents(), picture=identity_graph("y", "picture")))


def identity_graph(source: str, target: str) -> bytes:
    """A graph that gives its input back."""
    node = helper.make_node("Identity", [source], [target])
    return tiny_pack.model([node], [source], (target, None), {})


def test_graph_with_a_custom_operator_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Evil", ["image", "gain_y"], ["y"], domain="com.example")]
    names = ["image", "gain_y", "g_a.conv0.weight", "g_a.conv0.bias"]
    head = tiny_pack.model(nodes, names, ("y", tiny_pack.INPUT_SHAPES["y"]), {})
    with pytest.raises(UnsafePack, match=r"Evil of domain com\.example"):
        write_pack(tmp_path / "p", _contents(graphs={**tiny_pack.contents().graphs, "head": head}))


def test_failed_write_leaves_the_old_pack(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InvalidManifest):
        write_pack(folder, _with_tensors(g_s__conv0__bias=None))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"]


def test_pack_without_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="no task"):
        write_pack(tmp_path / "p", _contents(tasks={}))


def test_y_tables_of_another_size_are_refused(tmp_path: Path) -> None:
    tables = tiny_pack.contents().tables
    few = SymbolTables(limit=tables.limit[:8].copy(), counts=_centre(tables, 8))
    with pytest.raises(PackError, match="8 y tables"):
        write_pack(tmp_path / "p", _contents(tables=few))


def _centre(tables: SymbolTables, levels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """The first rows of the counts, cut to the support they need."""
    middle, limit = tables.counts.shape[1] // 2, int(tables.limit[:levels].max())
    return tables.counts[:levels, middle - limit : middle + limit + 1].copy()


def test_measured_rows_change_no_digest(folder: Path) -> None:
    before = load_pack(folder).manifest
    row = MeasuredRow(
        task="detect", data="noise", frames=2, rate=1.0, bytes_per_frame=900.0, bpp=0.1, metrics={"map": 0.1}
    )
    with_measured(folder, (row,), "# measured\n")
    after = load_pack(folder).manifest
    assert after.measured == (row,)
    assert after.codec_digest == before.codec_digest
    assert after.tasks == before.tasks
    assert (folder / "MODEL_CARD.md").read_text() == "# measured\n"


def test_every_file_of_the_default_pack_is_the_one_its_manifest_names() -> None:
    pack = load_pack("default")
    for name, entry in pack.manifest.codec.graphs.items():
        assert hashlib.sha256((DEFAULT_PACK / entry.file).read_bytes()).hexdigest() == entry.sha256, name
    assert "detect" in pack.tasks
