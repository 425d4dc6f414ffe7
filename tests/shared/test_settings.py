"""Settings: read strictly, and every fault said at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.settings import SettingsInvalid, read_settings

P = "CARBONACCOUNT_DEMO_"


@dataclass(frozen=True)
class Settings:
    database_url: str = field(metadata={"help": "set it to postgresql://host/database"})
    keys_dir: Path
    grace_ms: int = field(default=5_000, metadata={"min": 10, "max": 60_000})
    level: str = field(default="info", metadata={"choices": ("debug", "info")})
    strict: bool = True
    names: list[str] = field(default_factory=list)


GOOD = {f"{P}DATABASE_URL": "postgresql://h/d", f"{P}KEYS_DIR": "keys"}


def read(**more: str) -> Settings:
    return read_settings(Settings, "demo", GOOD | {P + name: text for name, text in more.items()})


def faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsInvalid) as invalid:
        read_settings(Settings, "demo", environment)
    return str(invalid.value).split("\n")


def test_values_are_read_by_type_and_the_rest_is_default() -> None:
    assert read() == Settings("postgresql://h/d", Path("keys"))
    assert read(GRACE_MS="10", STRICT="false", LEVEL="debug") == Settings(
        "postgresql://h/d", Path("keys"), 10, "debug", False
    )


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [("GRACE_MS", text, "whole number from 10 to 60000")
     for text in ("9", "60001", "", "ten", "1.5", "--5", "٣٣", " 10", "1_000", "1e3", "9" * 5000)]
    + [("STRICT", text, "true or false") for text in ("", "yes", "True", "1")]
    + [("LEVEL", "loud", "one of debug, info"), ("KEYS_DIR", "", "not be empty")],
)  # fmt: skip
def test_a_wrong_value_is_one_line_with_variable_value_and_rule(
    name: str, text: str, rule: str
) -> None:
    (line,) = faults({**GOOD, P + name: text})
    assert line.startswith(f"{P}{name} is {text[:64]!r}; ")
    assert rule in line
    assert len(line) < 200


def test_a_missing_variable_says_what_to_set_it_to() -> None:
    (line,) = faults({f"{P}KEYS_DIR": "keys"})
    assert line == f"{P}DATABASE_URL is not set; set it to postgresql://host/database"


def test_a_variable_that_no_setting_knows_is_refused_with_the_nearest_name() -> None:
    (line,) = faults({**GOOD, f"{P}GRACE_SM": "10"})
    assert line.endswith(f"did you mean {P}GRACE_MS?")
    (line,) = faults({**GOOD, f"{P}XYZZY": "10"})
    assert "take it away" in line


def test_variables_of_other_services_are_none_of_ours() -> None:
    more = {"CARBONACCOUNT_OTHER_X": "1", "CARBONACCOUNT_POSTGRES_HOME": "x", "HOME": "y"}
    assert read_settings(Settings, "demo", GOOD | more) == read()


def test_all_faults_are_said_at_once() -> None:
    assert len(faults({f"{P}GRACE_MS": "x", f"{P}TYPO": "1"})) == 4
