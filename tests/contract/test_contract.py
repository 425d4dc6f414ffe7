"""The contract as a contract: linted, never broken, and every RPC says who may call it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

import shared.refusal
from services.launch.layout import CHECKOUT
from shared import protogen
from shared.refusal import Refusal
from shared.rpc.contract import policy_of
from shared.rpc.status import Internal

IMAGE = protogen.IMAGE
RELEASED = Path(__file__).parent / "released.binpb"
BUF = Path(sys.executable).parent / "buf"
RULES = CHECKOUT / "buf.yaml"


def methods() -> list[MethodDescriptor]:
    protogen.generate()
    files = descriptor_pb2.FileDescriptorSet.FromString(IMAGE.read_bytes()).file
    pool = descriptor_pool.Default()
    for path in sorted((CHECKOUT / "protos").rglob("*_service.proto")):
        name = path.relative_to(CHECKOUT / "protos").with_suffix("").as_posix()
        __import__(name.replace("/", ".") + "_pb2")
    return [
        method
        for file in files
        if file.package.startswith("carbonaccount")
        for service in file.service
        for method in pool.FindServiceByName(f"{file.package}.{service.name}").methods
    ]


def test_the_contract_is_clean_under_standard_and_comments() -> None:
    protogen.generate()
    found = subprocess.run(
        [BUF, "lint", IMAGE, "--config", RULES], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_nothing_released_is_broken() -> None:
    assert RELEASED.exists(), "run `make protos-release` once and commit released.binpb"
    protogen.generate()
    found = subprocess.run(
        [BUF, "breaking", IMAGE, "--against", RELEASED, "--config", RULES],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, "")


def test_every_rpc_lists_its_callers_and_knows_whether_it_may_be_retried() -> None:
    streams_in = "IngestActivities"  # a lane has its own rule for going on
    for method in methods():
        assert policy_of(method).callers, f"{method.full_name} lists no caller"
        level = method.GetOptions().idempotency_level
        assert level in (1, 2) or method.name == streams_in, method.full_name


def test_a_key_that_makes_retries_safe_is_required_on_writes() -> None:
    for method in methods():
        if method.GetOptions().idempotency_level != 2:
            continue
        fields = method.input_type.fields_by_name
        natural = {"activity", "activities", "transfers", "name"}
        assert "request_id" in fields or natural & set(fields), method.full_name


def _promised() -> dict[str, str]:
    """Reason -> gRPC code, as the contract's comments say."""
    text = (CHECKOUT / "protos/carbonaccount/errors/v1/reason.proto").read_text()
    rows = re.findall(r"// ([A-Z_]+)\. [^\n]*\n(?:  //[^\n]*\n)*  REASON_([A-Z_]+) = [1-9]", text)
    return {reason: code for code, reason in rows}


def _refusals() -> dict[str, str]:
    kinds = [k for k in vars(shared.refusal).values() if isinstance(k, type)]
    mine = [k for k in [*kinds, Internal] if issubclass(k, Refusal) and k is not Refusal]
    return {kind.reason: kind.code.name for kind in mine}


@pytest.mark.parametrize("reason", sorted(_promised()))
def test_a_reason_is_sent_with_the_code_that_its_comment_names(reason: str) -> None:
    assert _refusals()[reason] == _promised()[reason]


def test_no_refusal_has_a_reason_that_the_contract_does_not_list() -> None:
    assert set(_refusals()) <= set(_promised())
