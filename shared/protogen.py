"""Compiles the contracts: `protos/` to typed stubs and a descriptor image under `build/`.

Run by `make` and by tests; does nothing when its inputs have not changed since.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "build" / "gen"
IMAGE = ROOT / "build" / "carbonaccount.binpb"
_STAMP = ROOT / "build" / "protos.sha256"
_TOOLS = ("grpcio-tools", "protobuf", "googleapis-common-protos", "mypy-protobuf")


def generate() -> bool:
    """Writes stubs and image when they are stale; says whether it did.

    Type stubs are written where mypy-protobuf is installed (development); running needs none.
    """
    with _one_at_a_time():
        digest = _digest()
        if _STAMP.exists() and _STAMP.read_text() == digest and IMAGE.exists():
            return False
        # Without the stamp a run that is killed from here on is simply done again.
        _STAMP.unlink(missing_ok=True)
        draft = GENERATED.with_name("gen.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _compile(draft)
        shutil.rmtree(GENERATED, ignore_errors=True)
        draft.rename(GENERATED)
        _STAMP.write_text(digest)
        return True


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two commands started together compile once; the second finds it done."""
    GENERATED.parent.mkdir(exist_ok=True)
    with (ROOT / "build" / "protos.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _inputs() -> list[Path]:
    return sorted(PROTOS.rglob("*.proto"))


def _digest() -> str:
    """Of all that the result depends on: contracts, this file, Python and the compilers."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for tool in _TOOLS:
        digest.update(f"{tool} {_version(tool)};".encode())
    for path in _inputs():
        digest.update(f"{path.relative_to(PROTOS)}\n".encode() + path.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _package_directory(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def _compile(target: Path) -> None:
    from grpc_tools import protoc  # noqa: PLC0415 - half of the time that an idle run takes

    outputs = [f"--python_out={target}", f"--grpc_python_out={target}"]
    if importlib.util.find_spec("mypy_protobuf") is not None:
        scripts = Path(sys.executable).parent
        outputs += [
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
        ]
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{_package_directory('google.api').parent.parent}",
        f"-I{_package_directory('grpc_tools') / '_proto'}",
        *outputs,
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={IMAGE}",
        *map(str, _inputs()),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("the contracts under protos/ do not compile; protoc's message is above")
    package = target / "carbonaccount"
    for directory in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (directory / "__init__.py").touch()
    (package / "py.typed").touch()


if __name__ == "__main__":
    print("contracts compiled" if generate() else "contracts unchanged")
