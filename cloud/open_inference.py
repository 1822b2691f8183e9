"""A subset of the Open Inference Protocol: models are tasks, the input is a feature bitstream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc

from cloud.devices import DeviceLimits
from cloud.metrics import CloudMetrics
from cloud.pipeline import Pipeline
from cloud.runner import FrameRunner, ServedPrompt
from cloud.status import refusing
from cloud.tensors import INPUT, answer_tensors, one_element
from splitcodec import __version__
from splitcodec.errors import InvalidRequest, UnknownTask
from splitcodec.tasks import TensorKind
from splitcodec.tasks.postprocess import answer_type
from splitcodec.wire.v1 import open_inference_pb2 as wire
from splitcodec.wire.v1.open_inference_pb2_grpc import GRPCInferenceServiceServicer

PLATFORM: Final = "splitcodec_bitstream_v1"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class OpenInferenceServicer(GRPCInferenceServiceServicer):
    """See open_inference.proto. Answers come out of the same batches as those of cameras; none is stored."""

    def __init__(
        self,
        pipeline: Pipeline,
        runner: FrameRunner,
        metrics: CloudMetrics,
        devices: DeviceLimits,
        is_ready: Callable[[], bool],
    ) -> None:
        self._pipeline = pipeline
        self._runner = runner
        self._metrics = metrics
        self._devices = devices
        self._is_ready = is_ready

    async def ServerLive(self, request: wire.ServerLiveRequest, context: Context) -> wire.ServerLiveResponse:
        """The process answers."""
        return wire.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: wire.ServerReadyRequest, context: Context
    ) -> wire.ServerReadyResponse:
        """Frames are taken."""
        return wire.ServerReadyResponse(ready=self._is_ready())

    async def ServerMetadata(
        self, request: wire.ServerMetadataRequest, context: Context
    ) -> wire.ServerMetadataResponse:
        """Name and version of this service."""
        return wire.ServerMetadataResponse(name="splitcodec-cloud", version=__version__)

    async def ModelReady(self, request: wire.ModelReadyRequest, context: Context) -> wire.ModelReadyResponse:
        """Whether a prompt of the task is served."""
        return wire.ModelReadyResponse(ready=bool(self._prompts(request.name, request.version)))

    async def ModelMetadata(
        self, request: wire.ModelMetadataRequest, context: Context
    ) -> wire.ModelMetadataResponse:
        """Versions and tensors of a task. UnknownTask."""
        async with refusing(context, self._metrics):
            prompts = self._prompts(request.name, request.version)
            if not prompts:
                served = sorted({prompt.task for prompt in self._runner.prompts()})
                raise UnknownTask(
                    f"model {request.name[:64]!r}, version {request.version[:64]!r}, is not served here; "
                    f"ask for one of {', '.join(served)} and no version"
                )
            return wire.ModelMetadataResponse(
                name=request.name,
                versions=[prompt.prompt_digest.hex() for prompt in prompts],
                platform=PLATFORM,
                inputs=[_metadata(TensorKind(INPUT, "BYTES", (1,)))],
                outputs=[_metadata(kind) for kind in answer_type(prompts[0].postprocess).tensor_kinds],
            )

    async def ModelInfer(self, request: wire.ModelInferRequest, context: Context) -> wire.ModelInferResponse:
        """The answer for one bitstream, within the call's deadline."""
        async with refusing(context, self._metrics):
            self._devices.admit_caller(context.peer())
            output = await self._pipeline.answer_once(
                request.model_name, _bitstream(request), context.time_remaining()
            )
            version = output.header.prompt_digest.hex()
            if request.model_version not in ("", version):
                raise InvalidRequest(
                    f"version {request.model_version[:64]!r} is asked for, the bitstream was made with "
                    f"{version}; leave the version empty, or encode with the prompt of that version"
                )
            tensors = answer_tensors(output.answer)
            wanted = {asked.name for asked in request.outputs}
            if unknown := wanted - {tensor.name for tensor in tensors}:
                names = ", ".join(tensor.name for tensor in tensors)
                raise InvalidRequest(f"output {min(unknown)[:64]!r} is not one of {names}; ask for these")
            chosen = [tensor for tensor in tensors if not wanted or tensor.name in wanted]
            return wire.ModelInferResponse(
                model_name=output.task,
                model_version=version,
                id=request.id,
                outputs=[
                    wire.ModelInferResponse.InferOutputTensor(
                        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
                    )
                    for tensor in chosen
                ],
                raw_output_contents=[tensor.data for tensor in chosen],
            )

    def _prompts(self, task: str, version: str) -> Sequence[ServedPrompt]:
        """Those of a task and, unless it is empty, a version; the active one first."""
        return sorted(
            (
                prompt
                for prompt in self._runner.prompts()
                if prompt.task == task and version in ("", prompt.prompt_digest.hex())
            ),
            key=lambda prompt: not prompt.active,
        )


def _metadata(kind: TensorKind) -> wire.ModelMetadataResponse.TensorMetadata:
    return wire.ModelMetadataResponse.TensorMetadata(name=kind.name, datatype=kind.datatype, shape=kind.shape)


def _bitstream(request: wire.ModelInferRequest) -> bytes:
    """The one input, raw or not. InvalidRequest."""
    given = [(tensor.name[:64], tensor.datatype[:16], list(tensor.shape)[:4]) for tensor in request.inputs]
    if given != [(INPUT, "BYTES", [1])]:
        raise InvalidRequest(f"the inputs are {given[:4]}; send one: {INPUT} BYTES [1]")
    contents = request.inputs[0].contents.bytes_contents
    if len(request.raw_input_contents) + len(contents) != 1:
        raise InvalidRequest(
            f"there are {len(request.raw_input_contents)} raw and {len(contents)} other contents; send one"
        )
    return one_element(request.raw_input_contents[0]) if request.raw_input_contents else contents[0]
