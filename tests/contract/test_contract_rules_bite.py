"""The rules of the contract find what breaks them: the no beside each yes of test_contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from shared.protogen import IMAGE, generate

RULES = Path(__file__).resolve().parents[2] / "buf.yaml"


@pytest.fixture
def contract() -> FileDescriptorSet:
    generate()
    return FileDescriptorSet.FromString(IMAGE.read_bytes())


def objections(changed: FileDescriptorSet, place: Path, *how: str | Path) -> str:
    """What buf says about a changed contract under buf.yaml; empty when it agrees."""
    path = place / "changed.binpb"
    path.write_bytes(changed.SerializeToString())
    ended = subprocess.run(
        [Path(sys.executable).parent / "buf", how[0], path, *how[1:], "--config", RULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode == 0) == (ended.stdout == ""), ended.stderr
    return ended.stdout


def first_field(contract: FileDescriptorSet) -> FieldDescriptorProto:
    cursor = next(file for file in contract.file if file.name.endswith("type/v1/cursor.proto"))
    return cursor.message_type[0].field[0]


def test_the_contract_as_it_is_meets_no_objection(
    contract: FileDescriptorSet, tmp_path: Path
) -> None:
    assert objections(contract, tmp_path, "lint") == ""
    assert objections(contract, tmp_path, "breaking", "--against", IMAGE) == ""


def test_a_part_without_a_comment_is_objected_to(
    contract: FileDescriptorSet, tmp_path: Path
) -> None:
    for file in contract.file:
        for location in file.source_code_info.location:
            location.ClearField("leading_comments")
    said = objections(contract, tmp_path, "lint")
    assert "should have a non-empty comment" in said
    assert "google/" not in said, "what others wrote is not judged"


def test_a_field_that_changes_its_number_is_objected_to(
    contract: FileDescriptorSet, tmp_path: Path
) -> None:
    field = first_field(contract)
    field.number = 999
    assert field.name in objections(contract, tmp_path, "breaking", "--against", IMAGE)


def test_a_field_that_changes_its_type_is_objected_to(
    contract: FileDescriptorSet, tmp_path: Path
) -> None:
    field = first_field(contract)
    field.type = FieldDescriptorProto.TYPE_STRING
    assert field.name in objections(contract, tmp_path, "breaking", "--against", IMAGE)


def test_a_new_field_breaks_nothing(contract: FileDescriptorSet, tmp_path: Path) -> None:
    cursor = next(file for file in contract.file if file.name.endswith("type/v1/cursor.proto"))
    fresh = cursor.message_type[0].field.add()
    fresh.CopyFrom(first_field(contract))
    fresh.name, fresh.json_name, fresh.number = "fresh", "fresh", 999
    assert objections(contract, tmp_path, "breaking", "--against", IMAGE) == ""
