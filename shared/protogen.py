"""Compiles the contracts: `protos/` to typed stubs and a descriptor image under `build/`.

Run by `make` and by tests; does nothing when its inputs have not changed since.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "build" / "gen"
IMAGE = ROOT / "build" / "carbonaccount.binpb"
_STAMP = ROOT / "build" / "protos.sha256"


def _package_directory(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def _inputs() -> list[Path]:
    return sorted(PROTOS.rglob("*.proto"))


def _digest(typed: bool) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} typed={typed}".encode())
    for path in [*_inputs(), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def generate() -> bool:
    """Writes stubs and image when they are stale; says whether it did.

    Type stubs are written where mypy-protobuf is installed (development); running needs none.
    """
    typed = importlib.util.find_spec("mypy_protobuf") is not None
    digest = _digest(typed)
    if _STAMP.exists() and _STAMP.read_text() == digest:
        return False
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir(parents=True)
    google_apis = _package_directory("google.api").parent.parent
    outputs = [f"--python_out={GENERATED}", f"--grpc_python_out={GENERATED}"]
    if typed:
        scripts = Path(sys.executable).parent
        outputs += [
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--mypy_out=quiet:{GENERATED}",
            f"--mypy_grpc_out=quiet:{GENERATED}",
        ]
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{google_apis}",
        f"-I{_package_directory('grpc_tools') / '_proto'}",
        *outputs,
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={IMAGE}",
        *map(str, _inputs()),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("the contracts under protos/ do not compile; protoc's message is above")
    for directory in [GENERATED / "carbonaccount", *(GENERATED / "carbonaccount").rglob("*/")]:
        (directory / "__init__.py").touch()
    (GENERATED / "carbonaccount" / "py.typed").touch()
    _STAMP.write_text(digest)
    return True


if __name__ == "__main__":
    print("contracts compiled" if generate() else "contracts unchanged")
