"""Packs made to harm: every digest in them is right, because their maker can compute digests too."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import tiny_pack
from fuzz.mutate import mutations
from onnx import TensorProto, helper

from splitcodec.errors import PackDamaged, PackError, PackTooLarge, PromptError, UnsafePack
from splitcodec.packs import load_pack
from splitcodec.packs.digest import prompt_digest
from splitcodec.packs.files import MAX_DIRECTORY_BYTES, ZipFiles
from splitcodec.packs.schema import CodecSection

HEAD, TAIL = "codec/head.onnx", "tails/detect.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    tiny_pack.write_tiny_pack(folder)
    return folder


def replace(folder: Path, path: str, data: bytes) -> None:
    """Put `data` in the place of a file and make every digest of the pack right again."""
    (folder / path).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    codec = manifest["codec"]
    section = manifest["tasks"]["detect"]
    for entry in (*codec["graphs"].values(), codec["tables"], section["prompt"], section["tail"]):
        if entry["file"] == path:
            entry["sha256"] = hashlib.sha256(data).hexdigest()
    digest = CodecSection.model_validate_json(json.dumps(codec)).digest
    prompt = prompt_digest(digest, "detect", section["prompt"]["sha256"], section["tail"]["sha256"])
    manifest["codec_digest"], section["prompt"]["digest"] = digest, prompt
    (folder / "manifest.json").write_text(json.dumps(manifest))
    beside = json.loads((folder / "prompts/detect.json").read_text())
    beside["tensors"]["sha256"], beside["tail_sha256"] = (
        section["prompt"]["sha256"],
        section["tail"]["sha256"],
    )
    beside["codec_digest"], beside["digest"] = digest, prompt
    (folder / "prompts/detect.json").write_text(json.dumps(beside))


def test_a_resealed_pack_is_as_good_as_the_first(folder: Path) -> None:
    replace(folder, TAIL, tiny_pack.tail_graph(seed=5))
    assert load_pack(folder).tail_bytes("detect") == tiny_pack.tail_graph(seed=5)


def external(model: onnx.ModelProto) -> None:
    """The weights are to be read from a file outside the pack."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def external_in_constant(model: onnx.ModelProto) -> None:
    """The same, hidden in the attribute of a Constant."""
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/shadow")
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def custom_operator(model: onnx.ModelProto) -> None:
    """An operator that a library of the attacker's would provide."""
    model.graph.node.append(helper.make_node("Run", ["feature"], ["x"], domain="evil"))
    model.opset_import.append(helper.make_opsetid("evil", 1))


def custom_operator_in_branch(model: onnx.ModelProto) -> None:
    """The same, in the branch of an If."""
    inner = helper.make_graph([helper.make_node("Run", [], ["x"], domain="com.microsoft")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))


def local_function(model: onnx.ModelProto) -> None:
    """A standard operator's name given another body."""
    made = helper.make_function("ai.onnx", "Conv", ["a"], ["b"], [], [helper.make_opsetid("", 20)])
    model.functions.append(made)


@pytest.mark.parametrize("path", [HEAD, TAIL])
@pytest.mark.parametrize(
    "harm", [external, external_in_constant, custom_operator, custom_operator_in_branch, local_function]
)
def test_graph_that_reaches_outside_its_file_is_refused(
    folder: Path, path: str, harm: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load_from_string((folder / path).read_bytes())
    harm(model)
    replace(folder, path, model.SerializeToString())
    with pytest.raises(UnsafePack):
        load_pack(folder)


@pytest.mark.parametrize(
    "path", ["../outside.onnx", "/etc/passwd", "codec/../../x.onnx", "codec//head.onnx", "C:\\x.onnx"]
)
def test_manifest_that_names_a_file_outside_is_refused(folder: Path, path: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["codec"]["graphs"]["head"]["file"] = path
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackError):
        load_pack(folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", [HEAD, "codec/tables.npz", "prompts/detect.safetensors", TAIL])
def test_damaged_file_with_right_digests_is_an_error_not_a_crash(folder: Path, path: str) -> None:
    sound = (folder / path).read_bytes()
    for data in mutations([sound], 25, 2 * len(sound), seed=7):
        replace(folder, path, data)
        try:
            load_pack(folder)
        except (PackError, PromptError):
            continue


def test_zip_entry_that_is_a_link_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "link.zip"
    entry = zipfile.ZipInfo("manifest.json")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafePack, match="is a link"):
        load_pack(place)


def test_zip_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "nameless.zip"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("x.json", b"{}")
    data = place.read_bytes().replace(b"x.json", b"\0.json")  # zipfile cuts names at the first zero byte
    place.write_bytes(data)
    with pytest.raises(UnsafePack):
        load_pack(place)


def test_zip_with_far_too_many_entries_is_refused_before_its_directory_is_read(tmp_path: Path) -> None:
    place = tmp_path / "entries.zip"
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    directory = (entry + b"a") * 20_000
    assert len(directory) > MAX_DIRECTORY_BYTES
    place.write_bytes(
        directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    )
    assert len(zipfile.ZipFile(place).infolist()) == 20_000  # Python itself takes all of them
    with pytest.raises(PackTooLarge, match="directory of"):
        ZipFiles(place)


def test_zip64_end_record_cannot_replace_the_checked_one(tmp_path: Path) -> None:
    place = tmp_path / "zip64.zip"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
    place.write_bytes(struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + end)
    with pytest.raises(PackTooLarge, match="zip64"):
        ZipFiles(place)


@pytest.mark.parametrize("tail", [b"", b"junk behind the end record"])
def test_zip_must_end_with_its_end_record(tmp_path: Path, tail: bytes) -> None:
    place = tmp_path / "tail.zip"
    place.write_bytes(
        (b"PK\5\6" if not tail else struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 9)) + tail
    )
    with pytest.raises(PackDamaged, match="does not end as a zip"):
        ZipFiles(place)


@pytest.mark.slow
def test_zip_bomb_is_refused_without_inflating_it(tmp_path: Path) -> None:
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(1 << 28))
    assert place.stat().st_size < 1 << 20
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from splitcodec.errors import PackTooLarge\nfrom splitcodec.packs import load_pack\n"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, size + 2**26))\n"
        "try: load_pack(sys.argv[1])\n"
        "except PackTooLarge as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "has 268435456 bytes; the limit is" in done.stdout
