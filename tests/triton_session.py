"""What a user of NVIDIA's tritonclient does, as a script; JSON on stdout. `triton_session.py TARGET FILE...`

Each file, named after its task, holds a bitstream. A process of its own: tritonclient registers the
protocol's messages under the same names as the cloud does, and protobuf allows that once per process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton


def ask(client: triton.InferenceServerClient, path: Path) -> dict[str, Any]:
    """Metadata and answer of one task."""
    task = path.stem
    tensor = triton.InferInput("bitstream", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([path.read_bytes()], dtype=np.object_))
    answer = client.infer(task, [tensor], request_id="one", client_timeout=60)
    metadata = client.get_model_metadata(task, as_json=True)
    found = {}
    for output in metadata["outputs"]:
        values = answer.as_numpy(output["name"])
        flat = values.ravel().tolist()
        found[output["name"]] = {
            "dtype": output["datatype"],
            "shape": list(values.shape),
            "values": [value.decode() if isinstance(value, bytes) else value for value in flat],
        }
    return {
        "ready": client.is_model_ready(task),
        "metadata": metadata,
        "version": answer.get_response().model_version,
        "id": answer.get_response().id,
        "outputs": found,
    }


def main(target: str, *files: str) -> None:
    """Everything tritonclient can ask for."""
    with triton.InferenceServerClient(target) as client:
        said = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "server": client.get_server_metadata(as_json=True),
            "unknown_ready": client.is_model_ready("nothing"),
            "tasks": {Path(name).stem: ask(client, Path(name)) for name in files},
        }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
