"""Generate ``api/api.binpb`` and ``api_pb2.pyi`` from ``api/api.proto``: ``python -m countersign.cri.generate``.

``api.proto`` is a verbatim copy of ``pkg/apis/runtime/v1/api.proto`` of the Go module
k8s.io/cri-api at `VERSION`, the one that the pinned containerd is built with. Only messages
are generated, as descriptors and their types: the client names its methods itself.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from countersign.console.errors import InfrastructureError

VERSION = "v0.37.0"
ROOT = Path(__file__).resolve().parents[2]
PROTO = "countersign/cri/api/api.proto"


def generate(out: Path) -> list[Path]:
    """Write the generated files below the folder ``out``, under their path in the repository.

    Returns:
        The files written.

    Raises:
        InfrastructureError: the compiler refused the file.
    """
    from grpc_tools import protoc

    well_known = files("grpc_tools") / "_proto"
    made = [out / "countersign/cri/api/api.binpb", out / "countersign/cri/api/api_pb2.pyi"]
    made[0].parent.mkdir(parents=True, exist_ok=True)
    arguments = ["protoc", f"-I{ROOT}", f"-I{well_known}", f"--descriptor_set_out={made[0]}", f"--pyi_out={out}", PROTO]
    if protoc.main(arguments) != 0:
        raise InfrastructureError("protoc failed", where=PROTO)
    return made


if __name__ == "__main__":
    generate(ROOT)
    sys.exit(0)
