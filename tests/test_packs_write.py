"""Writing a pack: what is refused before anything is written, and what stays where it was."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_graphs
import tiny_pack
from onnx import helper
from tiny_pack import folder

from splitcodec.entropy import SymbolTables
from splitcodec.errors import InexactScaleBranch, InvalidManifest, InvalidPrompt, PackError, UnsafePack
from splitcodec.packs import MeasuredRow, load_pack
from splitcodec.packs.write import PackContents, with_measured, write_pack

__all__ = ["folder"]


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
    task = replace(tiny_pack.contents().tasks["detect"], tail=tiny_graphs.head_graph())
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
    return tiny_graphs.model([node], [source], (target, None), {})


def test_graph_with_a_custom_operator_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Evil", ["image", "gain_y"], ["y"], domain="com.example")]
    names = ["image", "gain_y", "g_a.conv0.weight", "g_a.conv0.bias"]
    head = tiny_graphs.model(nodes, names, ("y", tiny_graphs.INPUT_SHAPES["y"]), {})
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
