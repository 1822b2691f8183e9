"""Edge and cloud together: tokens, certificates that change or end, signed packs, no secret in a log."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import httpx
import pytest
from cloud_helpers import PlainRunner
from edge_rig import JPEG_TYPE, EdgeRig, edge_rig, picture, tiny_codec
from identities import Identity, make_identity, put
from prometheus_client import CollectorRegistry
from tiny_pack import write_tiny_pack
from waiting import until

from cloud.runner import Admission, TaskOutput
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from edge.__main__ import main
from edge.cloud_link import CloudLink, read_token
from edge.codec import Codec
from edge.settings import EdgeSettings
from splitcodec.bitstream import Bitstream, parse
from splitcodec.codec import LatentState
from splitcodec.errors import SettingsError
from splitcodec.launch import start_service
from splitcodec.packs.sign import sign_pack
from splitcodec.signing import SigningKey
from splitcodec.tasks import Box, Detection, Detections
from splitcodec.tokens import Scope, new_token, write_tokens
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub

PATIENCE_S = 30.0


class AnyPrompt(PlainRunner):
    """Sees a cat in every frame, whatever prompt it was made with."""

    @contextmanager
    def admit(self, bitstream: bytes, state: LatentState | None = None) -> Iterator[Admission]:
        yield Admission(bitstream, "detect", 0, self._run_admitted)

    def _one(self, bitstream: Bitstream) -> TaskOutput:
        cat = Detection("cat", 1, 0.5, Box(1.0, 2.0, 3.0, 4.0))
        return TaskOutput("detect", bitstream.header, Detections((cat,)), {"decoder": 0.25})

    def run(self, bitstreams):  # type: ignore[no-untyped-def]
        return [self._one(parse(one)) for one in bitstreams]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


def token_file(place: Path, *scopes: Scope) -> str:
    """A token, alone in a file of tokens."""
    token, record = new_token(scopes, datetime.now(timezone.utc) + timedelta(hours=1), None)
    write_tokens(place, [record])
    return token


@asynccontextmanager
async def cloud_of(folder: Path, server: Identity, **options: object) -> AsyncIterator[CloudServer]:
    """A cloud over TLS."""
    settings = CloudSettings(
        port=0,
        metrics_port=0,
        data_dir=folder / "cloud",
        tls_cert=put(folder / "cloud.pem", server.cert_pem),
        tls_key=put(folder / "cloud.key", server.key_pem),
        **options,
    )
    async with CloudServer(settings, AnyPrompt(), CollectorRegistry()) as running:
        yield running


async def post(rig: EdgeRig) -> tuple[int, str]:
    """Status and id of a posted picture."""
    answer = await rig.http.post("/v1/frames", content=picture(), headers=JPEG_TYPE)
    return answer.status_code, answer.json()["id"]


async def is_answered(rig: EdgeRig, frame: str) -> bool:
    answer = await rig.http.get(f"/v1/frames/{frame}")
    return answer.status_code == 200 and answer.json().get("state", "answered") == "answered"


async def test_frames_wait_while_the_token_is_revoked_and_leave_with_a_new_one(
    codec: Codec, tmp_path: Path
) -> None:
    authority = make_identity("authority")
    tokens, own = tmp_path / "tokens.json", tmp_path / "token"
    own.write_text(token_file(tokens, "frames") + "\n")
    async with cloud_of(tmp_path, make_identity("cloud", authority), token_file=tokens) as cloud:
        options = {
            "cloud_target": f"127.0.0.1:{cloud.grpc_port}",
            "cloud_ca": put(tmp_path / "ca.pem", authority.cert_pem),
            "cloud_token_file": own,
        }
        async with edge_rig(codec, tmp_path / "edge", deadline_s=PATIENCE_S, **options) as rig:
            assert (await post(rig))[0] == 200
            fresh = token_file(tokens, "frames")  # the old one is revoked by it
            answer = await rig.http.post("/v1/frames?wait=0", content=picture(), headers=JPEG_TYPE)
            assert answer.status_code == 202
            await until(lambda: _away_because(rig, "UNAUTHENTICATED"))
            assert not await is_answered(rig, answer.json()["id"])
            own.write_text(fresh)
            await until(lambda: is_answered(rig, answer.json()["id"]))


async def _away_because(rig: EdgeRig, word: str) -> bool:
    return word in json.dumps((await rig.http.get("/readyz")).json())


async def test_frames_wait_while_the_clouds_certificate_is_over(codec: Codec, tmp_path: Path) -> None:
    authority = make_identity("authority")
    over = make_identity("cloud", authority, lifetime_s=-60)
    async with cloud_of(tmp_path, over) as cloud:
        options = {
            "cloud_target": f"127.0.0.1:{cloud.grpc_port}",
            "cloud_ca": put(tmp_path / "ca.pem", authority.cert_pem),
        }
        async with edge_rig(codec, tmp_path / "edge", **options) as rig:
            status, frame = await post(rig)
            assert status == 202
            sound = make_identity("cloud", authority)
            put(tmp_path / "cloud.pem", sound.cert_pem)
            put(tmp_path / "cloud.key", sound.key_pem)
            await until(lambda: is_answered(rig, frame))


async def test_a_new_certificate_of_the_edge_serves_its_next_call_and_running_ones_end_on_the_old(
    tmp_path: Path,
) -> None:
    servers, old, new = (make_identity(name) for name in ("servers", "old", "new"))
    client_ca = put(tmp_path / "client_ca.pem", old.cert_pem)
    settings = {
        "state_dir": tmp_path / "edge",
        "cloud_ca": put(tmp_path / "ca.pem", servers.cert_pem),
        "cloud_cert": tmp_path / "edge.pem",
        "cloud_key": tmp_path / "edge.key",
    }

    def give_edge(identity: Identity) -> None:
        put(tmp_path / "edge.pem", identity.cert_pem)
        put(tmp_path / "edge.key", identity.key_pem)

    async with cloud_of(tmp_path, make_identity("cloud", servers), tls_client_ca=client_ca) as cloud:
        give_edge(make_identity("edge", old))
        link = CloudLink(EdgeSettings(cloud_target=f"127.0.0.1:{cloud.grpc_port}", **settings))
        async with link.channel() as first:
            assert await prompts_over(first) == 1
            put(client_ca, new.cert_pem)
            give_edge(make_identity("edge", new))
            async with link.channel() as second:
                assert second is not first
                assert await prompts_over(second) == 1
                assert await prompts_over(first) == 1  # its connection was made before
        async with link.channel() as third:
            assert third is second
        with pytest.raises(Exception, match="closed"):
            await prompts_over(first)
        (tmp_path / "edge.key").unlink()
        async with link.channel() as fourth:
            assert fourth is second
        await link.close()


async def prompts_over(channel: grpc.aio.Channel) -> int:
    return len((await PromptsStub(channel).List(ListPromptsRequest(), timeout=PATIENCE_S)).prompts)


@pytest.mark.parametrize("text", ["", "sct_short", "secret-that-is-no-token"])
def test_a_file_without_a_token_stops_the_start_and_is_not_repeated(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(SettingsError, match="holds no token") as caught:
        read_token(tmp_path / "token")
    assert not text or text not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_token(tmp_path / "none")


@pytest.mark.slow
def test_services_with_every_protection_serve_and_no_secret_leaves_them(tmp_path: Path) -> None:
    """Two processes, TLS, tokens, a signed pack; then every file they left and all they said is searched."""
    key, pack = SigningKey.generate(), tmp_path / "tiny"
    write_tiny_pack(pack)
    sign_pack(pack, [key], 1)
    put(tmp_path / "trusted.pub", key.public.pem())
    authority = make_identity("authority")
    server = make_identity("server", authority)
    for name, data in (("c.pem", server.cert_pem), ("k.pem", server.key_pem), ("ca.pem", authority.cert_pem)):
        put(tmp_path / name, data)
    uplink = token_file(tmp_path / "cloud_tokens.json", "frames")
    put(tmp_path / "uplink_token", uplink.encode())
    client = token_file(tmp_path / "edge_tokens.json", "frames", "results", "metrics")
    both = [
        f"--tls-cert={tmp_path / 'c.pem'}",
        f"--tls-key={tmp_path / 'k.pem'}",
        "--protect-metrics",
        f"--trusted-keys={tmp_path}",
        "--require-signed-packs",
    ]
    cloud_flags = [f"--packs={pack}", f"--data-dir={tmp_path / 'cloud'}", "--metrics-port=0", *both]
    edge_flags = [f"--pack={pack}", f"--state-dir={tmp_path / 'edge'}", "--host=0.0.0.0", *both]
    logs = tmp_path / "logs"
    logs.mkdir()
    wrong = "sct_" + "0" * 12 + "_" + "A" * 43
    with start_service(
        "cloud", [*cloud_flags, f"--token-file={tmp_path / 'cloud_tokens.json'}"], logs
    ) as cloud:
        edge_flags += [
            f"--cloud-target=127.0.0.1:{cloud.ports['grpc_port']}",
            f"--cloud-ca={tmp_path / 'ca.pem'}",
            f"--cloud-token-file={tmp_path / 'uplink_token'}",
            f"--token-file={tmp_path / 'edge_tokens.json'}",
        ]
        with start_service("edge", edge_flags, logs) as edge:
            url = f"https://127.0.0.1:{edge.ports['http_port']}"
            trust = ssl.create_default_context(cadata=authority.cert_pem.decode())
            with httpx.Client(base_url=url, verify=trust, headers=JPEG_TYPE, timeout=PATIENCE_S) as http:
                said = []
                for token, status in ((client, 200), (wrong, 401), (client + "x", 401)):
                    header = {"Authorization": f"Bearer {token}"}
                    answer = http.post("/v1/frames", content=picture(), headers=header)
                    assert answer.status_code == status, answer.text
                    said.append(answer.text)
                header = {"Authorization": f"Bearer {client}"}
                said.append(http.get("/metrics", headers=header).text)
                said.append(http.get("/readyz").text)
    secrets = [token.split("_", 2)[2] for token in (uplink, client, wrong)]
    secrets += [line for line in server.key_pem.decode().splitlines() if "-----" not in line]
    left = [path for folder in ("logs", "cloud", "edge") for path in _files(tmp_path / folder)]
    assert {"edge.log", "cloud.log"} <= {path.name for path in left}
    for secret in secrets:
        for text in said:
            assert secret not in text
        for path in left:
            assert secret.encode() not in path.read_bytes(), path


def _files(folder: Path) -> list[Path]:
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names]


def test_an_edge_that_requires_signatures_does_not_start_with_a_changed_pack(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.__main__.log_to_stderr", lambda: None)
    key, pack = SigningKey.generate(), tmp_path / "tiny"
    write_tiny_pack(pack)
    sign_pack(pack, [key], 1)
    put(tmp_path / "trusted.pub", key.public.pem())
    tail = next(pack.glob("tails/*.onnx"))
    tail.write_bytes(tail.read_bytes() + b"\0")
    flags = [f"--pack={pack}", f"--state-dir={tmp_path / 'edge'}", f"--trusted-keys={tmp_path}", "--port=0"]
    with pytest.raises(SystemExit) as stopped:
        main([*flags, "--require-signed-packs"])
    assert stopped.value.code == 2
    assert "BadSignature" in caplog.text
