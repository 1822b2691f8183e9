"""Native TensorRT: graphs build with prompts as inputs without a GPU; engines are kept privately."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_pack
from fake_tensorrt import FakeCudart, fake_trt

from splitcodec.errors import GraphFailed, RuntimeUnavailable
from splitcodec.packs import Pack
from splitcodec.prompts.schema import GraphName
from splitcodec.runtime import cuda, tensorrt
from splitcodec.runtime.engine_cache import cache_folder, keep_engine, read_engine
from splitcodec.runtime.parts import parts_of
from splitcodec.runtime.shapes import SizeRange

FLOAT_GRAPHS: tuple[GraphName, ...] = ("head", "hyper_encoder", "quantizer", "decoder")
TINY = {**tiny_pack.contents().graphs, "tail": tiny_pack.tail_graph()}


@pytest.fixture(scope="module")
def trt() -> Any:
    import tensorrt_rtx

    return tensorrt_rtx


@pytest.mark.parametrize("name", [*FLOAT_GRAPHS, "tail"])
def test_tiny_graph_builds_with_prompts_as_inputs(trt: Any, name: str) -> None:
    assert len(tensorrt.build_engine(trt, TINY[name], name)) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOAT_GRAPHS)
def test_float_graph_of_the_default_pack_builds(trt: Any, default_pack: Pack, name: GraphName) -> None:
    """Proves, without a GPU, that TensorRT takes the exported graphs with every prompt tensor as an input."""
    model = default_pack.graph_bytes(name)
    logger = trt.Logger(trt.Logger.ERROR)
    network, parser = tensorrt.parse_network(trt, trt.Builder(logger), logger, model, name)
    inputs = {network.get_input(i).name for i in range(network.num_inputs)}
    assert inputs >= set(default_pack.prompt("detect").graph_inputs(name))
    del network, parser
    assert len(tensorrt.build_engine(trt, model, name)) > 1000


@pytest.mark.slow
def test_tail_of_the_default_pack_builds(trt: Any, default_pack: Pack) -> None:
    assert len(tensorrt.build_engine(trt, default_pack.tail_bytes("detect"), "tail")) > 1000


def test_bytes_that_are_no_graph_are_a_typed_error(trt: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GraphFailed, match="cannot parse graph x"):
        tensorrt.build_engine(trt, b"not onnx", "x")


def test_profiles_follow_the_strides() -> None:
    sizes = SizeRange(batch=(1, 2, 4), height=(32, 416, 640), width=(64, 352, 1000))
    assert sizes.profile("image", (-1, 3, -1, -1)) == ((1, 3, 32, 64), (2, 3, 416, 352), (4, 3, 640, 1000))
    assert sizes.profile("z_symbols", (-1, 4, -1, -1)) == ((1, 4, 1, 1), (2, 4, 7, 6), (4, 4, 10, 16))
    assert sizes.profile("gain_y", (-1, 8, 1, 1)) == ((1, 8, 1, 1), (2, 8, 1, 1), (4, 8, 1, 1))
    with pytest.raises(RuntimeUnavailable, match="gain_y has a free axis 2"):
        sizes.profile("gain_y", (-1, 8, -1, 1))


def test_engine_key_changes_with_everything_that_matters() -> None:
    package = SimpleNamespace(__name__="t", __version__="1")
    newer = SimpleNamespace(__name__="t", __version__="2")
    usual, small = SizeRange(), SizeRange(batch=(1, 1, 1))
    variants = [
        (package, b"m", usual, 13, "8.7"),
        (newer, b"m", usual, 13, "8.7"),
        (package, b"n", usual, 13, "8.7"),
        (package, b"m", small, 13, "8.7"),
        (package, b"m", usual, 12, "8.7"),
        (package, b"m", usual, 13, "9.0"),
    ]
    assert len({tensorrt.engine_key(*variant) for variant in variants}) == len(variants)
    assert tensorrt.engine_key(*variants[0]) == tensorrt.engine_key(*variants[0])


def test_engine_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    assert read_engine(folder, "k") is None
    keep_engine(folder, "k", b"engine")
    assert read_engine(folder, "k") == b"engine"
    assert stat.S_IMODE((folder / "k.engine").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["k.engine"]


def test_engine_others_could_have_written_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    keep_engine(folder, "k", b"engine")
    (folder / "k.engine").chmod(0o620)
    assert read_engine(folder, "k") is None
    (folder / "k.engine").chmod(0o600)
    folder.chmod(0o770)
    assert read_engine(folder, "k") is None
    folder.chmod(0o700)
    os.rename(folder / "k.engine", tmp_path / "elsewhere")
    (folder / "k.engine").symlink_to(tmp_path / "elsewhere")
    assert read_engine(folder, "k") is None


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPLITCODEC_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path / "engines"
    monkeypatch.delenv("SPLITCODEC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "splitcodec" / "engines"


def test_missing_packages_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "PACKAGES", ("no_such_trt", "json"))
    with pytest.raises(RuntimeUnavailable, match=r"no_such_trt: No module.*json: it has no OnnxParser"):
        tensorrt.load_tensorrt()


def test_missing_libcudart_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_candidates", lambda: ["libcudart.so.none"])
    with pytest.raises(RuntimeUnavailable, match=r"libcudart\.so\.none"):
        cuda.load_cuda()
    assert "libcudart" in (tensorrt.why_not() or "")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, FakeCudart, list[bytes]]:
    loaded: list[bytes] = []
    library, fake = FakeCudart(), fake_trt(loaded)
    monkeypatch.setenv("SPLITCODEC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tensorrt, "load_tensorrt", lambda: fake)
    monkeypatch.setattr(tensorrt, "load_cuda", lambda: cuda.Cuda(library))
    monkeypatch.setattr(tensorrt, "build_engine", lambda trt, model, name, sizes: b"built " + model)
    return tensorrt.TensorRTSession(b"m", "g"), library, loaded


def test_session_binds_inputs_and_returns_outputs(session: tuple[Any, FakeCudart, list[bytes]]) -> None:
    engine, library, _ = session
    b = np.array([3, 5], np.float32)
    b.flags.writeable = False
    for n in (1, 4, 2):
        a = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        assert np.array_equal(engine.run({"a": a, "b": b})["out"], a * b)
    assert library.uploads == 3 + 1  # `a` each time, the read-only `b` once
    assert len(library.memory) == 3
    assert (engine.engine, engine.input_names, engine.output_names) == ("tensorrt", ("a", "b"), ("out",))


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_beyond_the_profile_runs_in_parts(
    session: tuple[Any, FakeCudart, list[bytes]], frozen: bool
) -> None:
    engine, _, _ = session
    b = np.array([3, 5], np.float32)
    b.flags.writeable = False
    for n in (9, 20, 256):
        a = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        a.flags.writeable = not frozen
        engine._context.batches.clear()
        assert np.array_equal(engine.run({"a": a, "b": b})["out"], a * b)
        assert engine._context.batches == [8] * (n // 8) + [n % 8] * (n % 8 > 0)
    assert len(engine._constants) == 1, "parts of a read-only input are no constants"


def test_parts_repeat_single_rows_and_refuse_other_lengths() -> None:
    a, one, weight = np.arange(10), np.array([7]), np.arange(3)
    parts = parts_of("g", {"a": a, "one": one, "w": weight}, ["a", "one"], 4)
    assert [part["a"].tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(part["one"] is one and part["w"] is weight for part in parts)
    with pytest.raises(GraphFailed, match="graph g got 10 rows, but one has 3; give as many"):
        parts_of("g", {"a": a, "one": weight, "w": weight}, ["a", "one"], 4)


def test_free_first_axes_of_a_built_engine_are_the_batch(trt: Any) -> None:
    """What the session goes by, of a network that TensorRT has parsed."""
    logger = trt.Logger(trt.Logger.ERROR)
    network, parser = tensorrt.parse_network(trt, trt.Builder(logger), logger, TINY["decoder"], "decoder")
    shapes = {network.get_input(i).name: tuple(network.get_input(i).shape) for i in range(network.num_inputs)}
    batched = {name for name, shape in shapes.items() if shape[:1] == (-1,)}
    assert batched == {"symbols", "z_symbols", "gain_z_inv", "gain_y_inv"}
    assert tuple(network.get_output(0).shape)[:1] == (-1,)
    del network, parser


def test_an_engine_that_cannot_be_kept_is_used_and_said(
    session: tuple[Any, FakeCudart, list[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("SPLITCODEC_CACHE_DIR", str(tmp_path / "file"))
    engine = tensorrt.TensorRTSession(b"other", "decoder")
    a, b = np.ones((1, 2), np.float32), np.ones(2, np.float32)
    assert np.array_equal(engine.run({"a": a, "b": b})["out"], a)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "engine of graph decoder cannot be kept" in record.message
    assert "set SPLITCODEC_CACHE_DIR to a folder that can be written" in record.message


def test_a_user_without_a_home_folder_keeps_no_engine(
    session: tuple[Any, FakeCudart, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("SPLITCODEC_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    assert tensorrt.TensorRTSession(b"other", "decoder").name == "decoder"
    (record,) = caplog.records
    assert "cannot be kept" in record.message
    assert "Could not determine home directory. Set SPLITCODEC_CACHE_DIR" in record.message


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_session_takes_non_contiguous_inputs(session: tuple[Any, FakeCudart, list[bytes]]) -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3).T
    b = np.ones(2, np.float32)
    assert np.array_equal(session[0].run({"a": a, "b": b})["out"], a)


def test_session_refuses_what_the_network_does_not_take(session: tuple[Any, FakeCudart, list[bytes]]) -> None:
    good = {"a": np.zeros((1, 2), np.float32), "b": np.zeros(2, np.float32)}
    for name, bad in (("a", np.zeros((1, 2))), ("b", np.zeros((2, 2), np.float32))):
        with pytest.raises(GraphFailed, match=f"as {name}"):
            session[0].run({**good, name: bad})
    with pytest.raises(GraphFailed, match="lacks inputs"):
        session[0].run({"a": good["a"]})


def test_second_session_takes_the_engine_from_the_cache(session: tuple[Any, FakeCudart, list[bytes]]) -> None:
    def never(*arguments: object) -> bytes:
        raise AssertionError("built again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorrt, "build_engine", never)
        tensorrt.TensorRTSession(b"m", "g")
    assert session[2] == [b"built m", b"built m"]


def test_no_driver_and_no_gpu_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_candidates", lambda: ["x"])
    monkeypatch.setattr("ctypes.CDLL", lambda path: FakeCudart(error=35))
    with pytest.raises(RuntimeUnavailable, match=r"no driver \(cudaError 35\)"):
        cuda.load_cuda()
    monkeypatch.setattr("ctypes.CDLL", lambda path: FakeCudart(devices=0))
    with pytest.raises(RuntimeUnavailable, match="no NVIDIA GPU is visible"):
        cuda.load_cuda()
    monkeypatch.setattr("ctypes.CDLL", lambda path: FakeCudart())
    assert cuda.load_cuda().compute_capability() == "8.7"
