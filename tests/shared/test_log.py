"""Logs: JSON lines without secrets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import psycopg
import pytest
import structlog

from shared.log import LINES_KEPT_MAX, LineBuffer, configure_log, in_short, redact
from shared.settings import SettingsInvalid

TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def test_a_line_is_json_with_service_level_and_time(capfd: pytest.CaptureFixture[str]) -> None:
    configure_log("demo", "info")
    log: Any = structlog.get_logger()
    log.debug("not.shown")
    log.info("ride.recorded", count=3, text="骑行", nothing=None)
    (text,) = capfd.readouterr().err.splitlines()
    line = json.loads(text)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "ride.recorded", "service": "demo", "level": "info", "count": 3, "text": "骑行",
        "nothing": None,
    }  # fmt: skip


def test_an_unknown_level_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsInvalid, match="CARBONACCOUNT_DEMO_LOG_LEVEL is 'loud'"):
        configure_log("demo", "loud")


@pytest.mark.parametrize(
    "line",
    [
        {"authorization": "Bearer hush"},
        {"customer_ref": "hush"},
        {"event": "cannot connect to postgresql://user:hush@host/db"},
        {"inner": {"list": [{"token": "hush"}], "url": "postgresql://user:hush@host/db"}},
        {"error": ValueError("postgresql://user:hush@host/db")},
        {"header": ("authorization", f"Bearer {TOKEN}")},
    ],
)
def test_secrets_are_replaced_wherever_they_stand(line: dict[str, Any]) -> None:
    text = json.dumps(redact(None, "", line))
    assert "[redacted]" in text
    assert "hush" not in text
    assert TOKEN not in text


def test_of_an_error_a_line_holds_what_comes_before_the_rows(database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("create temp table person (name text primary key)")
        connection.execute("insert into person values ('planted')")
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            connection.execute("insert into person values ('planted')")
    assert "planted" in str(caught.value)
    assert in_short(caught.value) == (
        'UniqueViolation: duplicate key value violates unique constraint "person_pkey"'
    )


def test_of_a_failed_call_a_line_holds_code_and_details() -> None:
    with (
        grpc.insecure_channel("127.0.0.1:1") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/nobody/Answers")(b"", timeout=5)
    assert "UNAVAILABLE failed to connect" in in_short(caught.value)
    assert in_short(grpc.RpcError("it broke")) == "RpcError: it broke"


def test_what_is_no_secret_stays() -> None:
    line = {"url": "postgresql://host/db", "count": 7, "part": 1.5, "none": None, "on": True,
            "names": ["a", "b"], "eye": "eyJ"}  # fmt: skip
    assert redact(None, "", dict(line)) == line


def test_buffered_lines_are_written_together_and_soon(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        lines = LineBuffer()
        lines.add("one")
        lines.add("two")
        assert capfd.readouterr().err == ""
        await asyncio.sleep(0.15)
        assert capfd.readouterr().err == "one\ntwo\n"
        lines.flush()
        assert capfd.readouterr().err == ""

    asyncio.run(run())


def test_a_full_buffer_does_not_wait(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        lines = LineBuffer()
        for number in range(LINES_KEPT_MAX + 1):
            lines.add(str(number))
        assert len(capfd.readouterr().err.splitlines()) == LINES_KEPT_MAX
        lines.flush()
        assert capfd.readouterr().err == f"{LINES_KEPT_MAX}\n"

    asyncio.run(run())
