"""Prompts: what this cloud can decode."""

from __future__ import annotations

from typing import TypeAlias

import grpc

from cloud.metrics import CloudMetrics
from cloud.runner import FrameRunner
from cloud.status import refusing
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest, ListPromptsResponse, Prompt
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsServicer as PromptsBase

ListContext: TypeAlias = "grpc.aio.ServicerContext[ListPromptsRequest, ListPromptsResponse]"


class PromptsServicer(PromptsBase):
    """Reads from the runner, so the list is what frames really meet."""

    def __init__(self, runner: FrameRunner, metrics: CloudMetrics) -> None:
        self._runner = runner
        self._metrics = metrics

    async def List(self, request: ListPromptsRequest, context: ListContext) -> ListPromptsResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            return ListPromptsResponse(
                prompts=[
                    Prompt(
                        task=prompt.task,
                        pack=prompt.pack,
                        codec_digest=prompt.codec_digest,
                        prompt_digest=prompt.prompt_digest,
                        rate_points=prompt.rate_points,
                        input_height=prompt.input_height,
                        input_width=prompt.input_width,
                        labels=prompt.labels,
                    )
                    for prompt in self._runner.prompts()
                    if request.task in ("", prompt.task)
                ]
            )
