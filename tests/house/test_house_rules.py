"""Rules about the code that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("shared", "services", "deploy")
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50

TOP = {
    "pyproject.toml", "README.md", "protos", "services", "shared", "deploy", "tests",
    "Makefile", "requirements.lock", "requirements-dev.lock", "CHANGELOG.md", "buf.yaml",
    "LICENSE", "third_party",
}  # fmt: skip

# Written in parts, so that this file obeys its own rule.
REGISTRIES = re.compile(
    r"(py"
    r"pi\.org|python"
    r"hosted\.org|registry\.npm|npm"
    r"js\.(org|com)|crates"
    r"\.io|proxy\.go"
    r"lang|anaconda"
    r"\.(org|com)/|index-"
    r"url)",
    re.IGNORECASE,
)
MACHINE_PATH = re.compile(r"(?<![\w.$}*])/(?:home|root|work|Users|mnt|tmp)/[\w.]")
FLOAT = re.compile(r"\bfloat\d*\b")


def sources(*rooms: str) -> list[Path]:
    """Python files that we wrote."""
    return sorted(path for room in rooms for path in (CHECKOUT / room).rglob("*.py"))


def kept_files() -> list[Path]:
    """All files of the repository: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := CHECKOUT / name).is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    """Path, relative, and text of every kept file that is text."""
    for path in kept_files():
        content = path.read_bytes()
        if b"\0" not in content[:8192] and path.suffix != ".gz":
            yield path.relative_to(CHECKOUT), content.decode(errors="replace")


def lines_matching(rule: re.Pattern[str], text: str) -> list[int]:
    """Numbers of the lines in which the rule finds something."""
    return [number for number, line in enumerate(text.splitlines(), 1) if rule.search(line)]


def long_functions(text: str) -> list[tuple[str, int]]:
    """Name and length of each function that is longer than a page."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append((node.name, length))
    return found


def test_no_file_is_longer_than_one_subject_needs() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(*ROOMS)}
    long = {str(p.relative_to(CHECKOUT)): n for p, n in lengths.items() if n > FILE_LINES_MAX}
    assert not long, f"split these; the limit is {FILE_LINES_MAX} lines"


def test_no_function_is_longer_than_a_page() -> None:
    long = [
        f"{path.relative_to(CHECKOUT)}: {name} has {length} lines"
        for path in sources(*ROOMS)
        for name, length in long_functions(path.read_text())
    ]
    assert not long, f"split these; the limit is {FUNCTION_LINES_MAX} lines"


def test_a_function_of_a_page_is_allowed_and_one_line_more_is_not() -> None:
    page = "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)
    assert long_functions(page) == []
    assert long_functions(page + "    x = 1\n") == [("f", FUNCTION_LINES_MAX + 1)]


def binary_fractions(text: str) -> list[int]:
    """Lines of code, not of prose, in which a binary fraction is named or written."""
    tree = ast.parse(text)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word):
                if FLOAT.search(word):
                    found.append(node.lineno)
            case ast.Constant(value=str(word)) if id(node) not in prose:
                if FLOAT.search(word):
                    found.append(node.lineno)
            case ast.Constant(value=float()):
                found.append(node.lineno)
    return found


def test_no_domain_knows_binary_fractions() -> None:
    domains = [path for path in sources("services") if "domain" in path.parts]
    assert domains, "the services have domains"
    found = [
        f"{path.relative_to(CHECKOUT)}:{line}"
        for path in domains
        for line in binary_fractions(path.read_text())
    ]
    assert not found, "mass and measures are integers or decimals"


@pytest.mark.parametrize(
    "line", ["x: float = 1", "numpy.float64", "float(x)", "x.astype('float32')", "x = 0.5"]
)
def test_a_binary_fraction_is_found_in_every_dress(line: str) -> None:
    assert binary_fractions(line)


@pytest.mark.parametrize("line", ['"""No float occurs."""', "# no float", "afloat = 1", "1 // 2"])
def test_prose_and_words_that_only_contain_it_are_none(line: str) -> None:
    assert binary_fractions(line) == []


def test_no_file_names_a_package_registry() -> None:
    found = [f"{p}:{n}" for p, text in texts() for n in lines_matching(REGISTRIES, text)]
    assert not found, "where packages come from is the user's affair"


def test_a_registry_is_found_when_it_is_named() -> None:
    named = "--index-" + "url https://files.python" + "hosted.org/simple"
    assert lines_matching(REGISTRIES, named) == [1]
    assert lines_matching(REGISTRIES, "pip install -r requirements.lock") == []


def test_locks_hold_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (CHECKOUT / name).read_text()
        assert "://" not in text, name
        pins = re.findall(r"^([\w.\[\]-]+==\S+).*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.M)
        entries = re.findall(r"^[\w.\[\]-]+", text, re.M)
        assert len(pins) == len(entries) > 0, name


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = [f"{p}:{n}" for p, text in texts() for n in lines_matching(MACHINE_PATH, text)]
    assert not found, "say it relative to the checkout, or as a setting"


def test_a_path_of_one_machine_is_found_and_a_name_on_the_wire_is_none() -> None:
    assert lines_matching(MACHINE_PATH, "open('/" + "home/me/x')") == [1]
    assert lines_matching(MACHINE_PATH, "scenes/home/x") == []


def test_the_top_of_the_house_is_what_it_was_agreed_to_be() -> None:
    top = {path.relative_to(CHECKOUT).parts[0] for path in kept_files()}
    assert {name for name in top if not name.startswith(".")} <= TOP
    assert {"pyproject.toml", "README.md", "protos", "services", "shared", "deploy", "tests"} <= top
