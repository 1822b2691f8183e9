"""The HTTP interface of the edge: a picture in, the cloud's result out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_rig import EdgeRig, edge_rig, picture, tiny_codec
from prometheus_client.parser import text_string_to_metric_families
from tiny_pack import write_tiny_pack

from edge.pipeline import Codec
from splitcodec.bitstream import parse
from splitcodec.codec import FeatureDecoder
from splitcodec.frame import read_picture


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@pytest.fixture
async def rig(codec: Codec, tmp_path: Path) -> AsyncIterator[EdgeRig]:
    async with edge_rig(codec, tmp_path) as running:
        yield running


async def test_a_picture_becomes_the_clouds_detections(rig: EdgeRig) -> None:
    response = await rig.post(picture(120, 200), camera="gate", rate=1.5)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["detections"] == [
        {
            "label": "cat",
            "class_id": 0,
            "score": 0.75,
            "box": {"x1": 20.0, "y1": 10.0, "x2": 120.0, "y2": 90.0},
        }
    ]
    assert (body["device"], body["camera"], body["task"], body["rate"]) == ("box-1", "gate", "detect", 1.5)
    assert body["id"] == f"gate-{body['seq']}"
    assert (body["source_height"], body["source_width"]) == (120, 200)
    assert (body["network_height"], body["network_width"]) == (64, 96)


async def test_what_is_sent_is_the_bitstream_and_its_bytes_are_reported(rig: EdgeRig) -> None:
    body = (await rig.post(picture(120, 200))).json()
    frame = rig.cloud.frames[0]
    header = parse(frame.bitstream).header
    assert (header.source_height, header.source_width) == (120, 200)
    assert (header.network_height, header.network_width) == (64, 96)
    assert body["num_bytes"] == len(frame.bitstream)
    assert body["bpp"] == pytest.approx(8 * len(frame.bitstream) / (120 * 200))
    assert body["prompt_digest"] == header.prompt_digest.hex()
    assert body["codec_digest"] == header.codec_digest.hex()
    assert (frame.key.device, frame.key.camera, frame.key.seq) == ("box-1", "default", body["seq"])
    assert frame.capture_time_unix_nanos == pytest.approx(body["capture_time"] * 1e9)


async def test_a_decoder_takes_what_is_sent(rig: EdgeRig, tmp_path: Path) -> None:
    await rig.post()
    decoder = FeatureDecoder(write_tiny_pack(tmp_path / "tiny"))
    assert decoder.decompress(rig.cloud.frames[0].bitstream).feature.shape == (1, 6, 8, 12)


async def test_timings_are_seconds_per_stage(rig: EdgeRig) -> None:
    timings = (await rig.post()).json()["timings"]
    assert set(timings["edge"]) == {"decode", "head", "hyper", "context", "entropy"}
    assert timings["cloud"] == {"decoder": 0.004, "tail": 0.006}
    assert all(0 < seconds < 10 for seconds in timings["edge"].values())
    assert sum(timings["edge"].values()) + timings["round_trip"] <= timings["total"]


async def test_sequence_numbers_rise_per_camera(rig: EdgeRig) -> None:
    seqs = [(await rig.post(camera=camera)).json()["seq"] for camera in ("a", "a", "b", "a")]
    assert seqs == [1000, 1001, 1000, 1002]  # the rig's clock stands at one second


async def test_rates_change_the_bytes(rig: EdgeRig) -> None:
    sizes = [(await rig.post(picture(64, 96, seed=3), rate=rate)).json()["num_bytes"] for rate in (0, 1, 2)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


async def test_the_default_rate_is_mid_range(rig: EdgeRig) -> None:
    assert (await rig.post()).json()["rate"] == 1.0


async def test_a_result_can_be_read_again(rig: EdgeRig) -> None:
    posted = (await rig.post()).json()
    read = await rig.http.get(f"/v1/frames/{posted['id']}")
    assert read.json() == posted


async def test_the_overlay_shows_the_picture_with_its_boxes(rig: EdgeRig) -> None:
    data = picture(120, 200)
    frame_id = (await rig.post(data)).json()["id"]
    response = await rig.http.get(f"/v1/frames/{frame_id}/overlay.jpg")
    assert response.headers["content-type"] == "image/jpeg"
    drawn, plain = read_picture(response.content), read_picture(data)
    changed = abs(drawn.astype(int) - plain).max(axis=2) > 60
    assert changed[88, 30:110].mean() > 0.6  # lower edge of the box 20,10 to 120,90
    assert not changed[95:, 130:].any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_all_three_kinds_of_picture_are_taken(rig: EdgeRig, kind: str) -> None:
    headers = {"Content-Type": f"image/{kind.lower()}"}
    response = await rig.http.post("/v1/frames", content=picture(kind=kind), headers=headers)
    assert response.status_code == 200


async def test_prompts_are_listed(rig: EdgeRig, codec: Codec) -> None:
    (prompt,) = (await rig.http.get("/v1/prompts")).json()
    assert prompt == {
        "task": "detect",
        "prompt_digest": codec.prompts.list()[0].digest[:16],
        "codec_digest": codec.codec_digest[:16],
        "active": True,
        "state": "active",
        "leases": 0,
        "max_rate": 2.0,
        "default_rate": 1.0,
        "network_height": 64,
        "network_width": 96,
        "labels": ["cat", "dog"],
    }


async def test_health_and_readiness(rig: EdgeRig) -> None:
    assert (await rig.http.get("/healthz")).json() == {"status": "ok"}
    await rig.post()
    ready = (await rig.http.get("/readyz")).json()
    assert ready["ready"] is True
    assert (ready["device"], ready["pack"], ready["tasks"]) == ("box-1", "tiny", ["detect"])
    assert ready["engine"] == "onnxruntime-cpu"
    assert ready["cloud"] == {
        "target": rig.cloud.target,
        "state": "ready",
        "note": "",
        "last_error": "",
        "clock_offset_s": None,
    }
    assert (ready["spool"]["frames"], ready["spool"]["note"]) == (0, "")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a scrape by name and labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


async def test_metrics_count_what_happened(rig: EdgeRig) -> None:
    data = picture()
    body = (await rig.post(data, camera="gate")).json()
    await rig.post(data[:200], camera="gate")
    found = samples((await rig.http.get("/metrics")).text)
    gate = (("camera", "gate"), ("task", "detect"))

    def frames(outcome: str) -> float:
        return found["splitcodec_edge_frames_total", (gate[0], ("outcome", outcome), gate[1])]

    assert (frames("ok"), frames("BrokenFrame")) == (1, 1)
    assert found["splitcodec_edge_bitstream_bytes_total", gate] == body["num_bytes"]
    assert found["splitcodec_edge_picture_bytes_total", gate] == len(data)
    assert found["splitcodec_edge_rate_point", gate] == 1.0
    assert found["splitcodec_edge_pending_frames", ()] == 0
    bytes_per_pixel = found["splitcodec_edge_bytes_per_pixel_sum", (("task", "detect"),)]
    assert bytes_per_pixel == pytest.approx(body["bpp"] / 8)
    for stage in ("decode", "head", "hyper", "context", "entropy", "send"):
        assert found["splitcodec_edge_stage_seconds_count", (("stage", stage),)] == 1
    prompt = (("digest", body["prompt_digest"]), ("state", "active"), ("task", "detect"))
    assert found["splitcodec_prompt_info", prompt] == 1


async def test_counters_never_fall(rig: EdgeRig) -> None:
    await rig.post()
    before = samples((await rig.http.get("/metrics")).text)
    await rig.post()
    after = samples((await rig.http.get("/metrics")).text)
    counters = [key for key in before if key[0].endswith(("_total", "_count", "_bucket"))]
    assert counters
    assert all(after[key] >= before[key] for key in counters)


async def test_the_interface_describes_itself(rig: EdgeRig) -> None:
    document = (await rig.http.get("/openapi.json")).json()
    body = document["paths"]["/v1/frames"]["post"]["requestBody"]["content"]
    assert {"image/jpeg", "image/png", "image/webp"} <= set(body)
    assert {"413", "415", "422", "429", "503"} <= set(document["paths"]["/v1/frames"]["post"]["responses"])
    assert (await rig.http.get("/docs")).status_code == 200
