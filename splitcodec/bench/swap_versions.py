"""What cameras are swapped among: the tasks of a pack, and further versions of prompts, by their digest."""

from __future__ import annotations

import hashlib
import http.client
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import safetensors.numpy

from splitcodec.bench.swap_run import UsedPrompt
from splitcodec.client.prompt_admin import PromptAdmin
from splitcodec.errors import CloudRefused
from splitcodec.launch import Services
from splitcodec.packs import Pack
from splitcodec.packs.digest import prompt_digest
from splitcodec.packs.prompt_pack import (
    cut_prompt_pack,
    load_prompt_pack,
    parse_prompt_manifest,
    prompt_pack_bytes,
)
from splitcodec.packs.schema import MANIFEST_FILE

ALTERED: Final = ("g_a.", "g_s.")  # floats of both sides; what enters the integer tables stays as it is
BY: Final = 1 + 1 / 64


@dataclass(frozen=True)
class Version:
    """A prompt pack beside those that the pack brings."""

    used: UsedPrompt
    place: Path


def pack_prompts(pack: Pack) -> list[UsedPrompt]:
    """The prompts of a pack, each as the active one of its task."""
    return [UsedPrompt(task, pack.prompt(task).wire_digest.hex(), False) for task in pack.tasks]


def versions(pack: Pack, places: Sequence[Path], folder: Path) -> list[Version]:
    """The prompt packs at `places`; without any, an altered copy of the first task's prompt, in `folder`."""
    if not places:
        altered = folder / "altered.zip"
        altered.write_bytes(altered_prompt_pack(pack, pack.tasks[0]))
        places = [altered]
    found = []
    for place in places:
        prompt = load_prompt_pack(place, {pack.codec_digest: pack.manifest.codec}).prompt
        found.append(Version(UsedPrompt(prompt.task, prompt.wire_digest.hex(), True), place))
    return found


def altered_prompt_pack(pack: Pack, task: str) -> bytes:
    """Another version of a task's prompt: its transforms' weights times BY. Not trained, and as good as one
    for telling a frame of this version from a frame of the other.
    """
    place = pack.task(task).prompt.file
    tensors = safetensors.numpy.load(pack.file_bytes(place))
    changed = {
        name: (array * BY).astype(array.dtype) if name.startswith(ALTERED) else array
        for name, array in tensors.items()
    }
    data, tail = safetensors.numpy.save(changed), pack.tail_bytes(task)
    with zipfile.ZipFile(io.BytesIO(cut_prompt_pack(pack, task))) as archive:
        manifest = parse_prompt_manifest(archive.read(MANIFEST_FILE), "the prompt pack")
    digests = [hashlib.sha256(part).hexdigest() for part in (data, tail)]
    prompt = manifest.section.prompt.model_copy(
        update={"sha256": digests[0], "digest": prompt_digest(pack.codec_digest, task, *digests)}
    )
    section = manifest.section.model_copy(update={"prompt": prompt})
    return prompt_pack_bytes(manifest.model_copy(update={"section": section}), data, tail)


def bring(services: Services, found: Sequence[Version]) -> None:
    """Publish versions in the cloud and upload them to the edge; they are activated in neither."""
    with PromptAdmin(f"127.0.0.1:{services.cloud.ports['grpc_port']}") as admin:
        for version in found:
            admin.publish(version.place)
    connection = http.client.HTTPConnection("127.0.0.1", services.edge.ports["http_port"], timeout=120)
    for version in found:
        connection.request("POST", "/v1/prompts", version.place.read_bytes())
        response = connection.getresponse()
        said = response.read()
        if response.status != http.client.OK:
            raise CloudRefused(f"POST /v1/prompts: {response.status} {said[:300].decode(errors='replace')}")
    connection.close()
