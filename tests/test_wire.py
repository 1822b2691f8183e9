"""The generated stubs belong to the .proto files beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from splitcodec.wire.v1 import ingest_pb2, prompts_pb2, results_pb2

PROTO = Path(__file__).parent.parent / "proto"


@pytest.mark.parametrize("module", [ingest_pb2, prompts_pb2, results_pb2], ids=lambda module: module.__name__)
def test_stubs_are_generated_from_the_proto_files(module, tmp_path: Path) -> None:
    out = tmp_path / "set"
    source = PROTO / module.DESCRIPTOR.name
    assert protoc.main(["protoc", f"-I{PROTO}", f"--descriptor_set_out={out}", str(source)]) == 0
    (fresh,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    kept = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    for file in (fresh, kept):
        for message in file.message_type:
            for each in (message, *message.nested_type):
                for field in each.field:
                    field.ClearField("json_name")
    assert fresh == kept, "run `make proto`"
