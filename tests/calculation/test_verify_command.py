"""What `carbonaccount verify` takes, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from carbonaccount.activity.v1.activity_service_pb2 import EvidenceGrade
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from typer.testing import CliRunner

from services.__main__ import app
from services.calculation.result_json import EVIDENCE_GRADES, FIELDS, STEP_FIELDS, VERDICTS
from services.calculation.verify import ResultUnreadable, read_result, verify
from tests.calculation.domain.world import FACTORS, ROOT, TESTSET
from tests.calculation.verify_world import FILES, bike, estimate_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the result is no JSON: .*line 1, column 1; give the whole answer"),
        ("[" * 100_000, "the result is no assessment"),
        ("[]", r"the result is \[\] and no JSON object"),
        ('{"assessment": 5}', "the result is 5 and no JSON object"),
        ('{"reduction_gram": "1"}', "'reduction_gram', which this release does not know"),
        ('{"reduction_mg": "1", "reduction_mg": "2"}', "'reduction_mg' stands twice"),
        ('{"reduction_mg": "1", "reductionMg": "2"}', "reduction_mg twice, spelt in two ways"),
        ('{"reduction_mg": 1.5}', "reduction_mg is 1.5; it is a whole number"),
        ('{"reduction_mg": true}', "reduction_mg is True; it is a whole number"),
        ('{"reduction_mg": NaN}', "reduction_mg is nan"),
        ('{"reduction_mg": "9223372036854775808"}', "whole number of 64 bits"),
        ('{"reduction_mg": 1' + "0" * 5000 + "}", "the result is no assessment"),
        ('{"measures": {"count": "one"}}', "measures.count is 'one'"),
        ('{"history": {"mean": "1e999999999"}}', "history.mean is '1e999999999'; it is exact"),
        ('{"history": {"mean": "1/0"}}', "history.mean is '1/0'"),
        ('{"civil_date": {"year": 2026, "month": 2, "day": 30}}', "2026-2-30, which is no day"),
        ('{"region_code": "Shenzhen"}', "region_code is 'Shenzhen'; it has six digits"),
        ('{"verdict": "GRANTED"}', "verdict is 'GRANTED'; it is one of VERDICT_UNSPECIFIED"),
        ('{"evidence_grade": 4}', "evidence_grade is 4"),
        ('{"steps": [{"formula": "x"}]}', r"steps\[0\] has 'formula'"),
        ('{"caps": {}}', r"caps is \{\} and no JSON list"),
        ('{"scene": 5}', "scene is 5; it is text in quotes"),
    ],
)
def test_what_is_no_assessment_is_refused_with_what_is_wrong(text: str, expected: str) -> None:
    with pytest.raises(ResultUnreadable, match=expected):
        read_result(text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"methodology_version": "methodologies/hello-2022/versions/9"},
         "has no methodologies/hello-2022/versions/9; it has methodologies/hello-2022/versions/1"),
        ({"methodology_version": "../../secret"}, "it must be methodologies/"),
        ({"methodology_version": "methodologies/../versions/1"}, "it must be methodologies/"),
        ({"scene": "scenes/metro-ride"}, "does not price 'scenes/metro-ride' in this file, but "),
        ({"civil_date": None}, "no civil_date"),
    ],
)  # fmt: skip
def test_a_result_that_the_file_does_not_know_is_refused(
    change: dict[str, Any], expected: str
) -> None:
    result = bike()
    with pytest.raises(ResultUnreadable, match=expected):
        verify(read_result(json.dumps(result.tree | change)), result.text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FILES["citic-2022.toml"], "has the id 'citic-2022' and the result was computed by hello"),
        ("id = ", r"does not load: hello-2022\.toml:1:"),
        ('id = "hello-2022"', r"does not load: hello-2022\.toml:1:1: the file: .* is missing"),
        ("", "has the id None"),
    ],
)
def test_a_wrong_file_is_refused_with_the_right_one(text: str, expected: str) -> None:
    with pytest.raises(ResultUnreadable, match=expected):
        verify(read_result(bike().json), text)


def test_the_reader_knows_the_contract_whole() -> None:
    assert set(FIELDS) == set(pb.Assessment.DESCRIPTOR.fields_by_name)
    assert set(STEP_FIELDS) == set(pb.Step.DESCRIPTOR.fields_by_name)
    assert set(pb.CapUse.DESCRIPTOR.fields_by_name) == {"cap", "used_before"}
    assert dict(pb.Verdict.items()) == VERDICTS
    assert dict(EvidenceGrade.items()) == EVIDENCE_GRADES


# The command


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code and what was said, on both streams."""
    ended = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    return ended.exit_code, ended.stdout, ended.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A result of the shipped library."""
    path = tmp_path / "result.json"
    path.write_text(bike().json, "utf-8")
    return path


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("en", "1. Distance: "), ("zh", "1. 骑行距离：")],
)
def test_the_command_prints_each_thing_checked_and_the_working(
    file: Path, language: str, sentence: str
) -> None:
    code, said, _ = command(file, "--lang", language)
    assert code == 0, said
    assert "reduction_mg: ok" in said
    assert "result_digest: ok" in said
    assert sentence in said
    assert said.splitlines()[-1].endswith(" agree.")


def test_the_command_ends_with_1_and_says_what_differs(file: Path) -> None:
    file.write_text(json.dumps(bike().tree | {"reduction_mg": "5"}), "utf-8")
    code, said, _ = command(file)
    assert code == 1
    assert f"reduction_mg: differs: said 5, computed {bike().assessment.reduction_mg}\n" in said
    assert said.splitlines()[-1].startswith("1 of ")


def test_the_command_says_which_text_to_give_when_the_file_is_another(
    file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "old.toml"
    other.write_text(FILES["hello-2022.toml"].replace("100_000", "100_001"), "utf-8")
    code, said, _ = command(file, "--methodology", other)
    assert code == 1
    assert "This file is not the text that the result was computed by" in said
    other.write_text(FILES["hello-2022.toml"], "utf-8")  # whatever the file is called
    assert command(file, "--methodology", other)[0] == 0


def test_the_command_takes_a_methodology_and_factors_of_its_own(
    tmp_path: Path,
) -> None:
    path, rule = tmp_path / "quoted.json", TESTSET / "quoted-grid.toml"
    path.write_text(estimate_of("quoted-grid", "quoted-grid").json, "utf-8")
    assert command(path, "--methodology", rule, "--factors", FACTORS[1])[0] == 0
    code, _, said = command(path)
    assert (code, "the shipped library has no quoted-grid; give its file" in said) == (2, True)
    code, _, said = command(path, "--methodology", rule)
    assert (code, "quoted-grid.toml:" in said, "made-up-grid" in said) == (2, True, True)
    code, _, said = command(path, "--methodology", rule, "--factors", tmp_path)
    assert (code, "has no factor files; name a directory" in said) == (2, True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "result.json: No such file or directory; name the file that holds the result"),
        (b"{", "the result is no JSON"),
        (b"\xff\xfe{\x00}\x00", "result.json is no text in UTF-8"),
        (b" " * (8 * 1024 * 1024 + 1), "has more than 8388608 bytes"),
        ('{"measures": {"[red]\u202e\\u001b[2J": "x"}}'.encode(), "measures.[red]??[2J is 'x'"),
    ],
)
def test_the_command_ends_with_2_and_one_line_when_it_cannot_read(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content)
    code, said, why = command(path)
    assert (code, said, why.count("\n")) == (2, "", 1)
    assert why.startswith("cannot verify: ")
    assert expected in why
    assert why[:-1].isprintable()


def test_a_result_that_starts_with_a_byte_order_mark_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert command(file)[0] == 0


ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ImportError("must not be needed: " + name)
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        raise OSError("must not be needed: " + event)
sys.meta_path.insert(0, Refuse())
sys.addaudithook(watch)
sys.argv[0] = "verify"
runpy.run_module({module!r}, run_name="__main__")
"""
HEAVY = ("grpc", "sqlalchemy", "psycopg", "alembic", "google", "carbonaccount", "structlog")


@pytest.mark.parametrize(
    ("module", "refused", "words"),
    [("services", (), ["verify"]), ("services.calculation.verify_command", HEAVY, [])],
)
def test_as_a_process_it_needs_no_network_and_alone_no_grpc_and_no_database(
    file: Path, module: str, refused: tuple[str, ...], words: list[str]
) -> None:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    program = ALONE.format(refused=refused, module=module)
    ended = subprocess.run(
        [sys.executable, "-c", program, *words, file],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "reduction_mg: ok" in ended.stdout
