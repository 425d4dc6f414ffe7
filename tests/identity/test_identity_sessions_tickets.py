"""Tickets of the bank: which are taken, and which are not for which fault."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey
from sessions_house import ISSUER, Bank

from services.identity.domain.session import BankCustomer, Holder, session_id_of, session_name
from services.identity.upstream.bank_tickets import BankTickets, open_bank_tickets
from shared.ids import date_to_day
from shared.refusal import CodeInvalid, FieldInvalid
from shared.rpc.jwks import KeysBroken, json_web_key_set
from shared.settings import SettingsInvalid

NOW = datetime(2026, 4, 1, 4, 0, 0, 500_000, tzinfo=UTC)
NOW_S = int(NOW.timestamp())


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path, lambda: NOW_S * 10**6)


@pytest.fixture
def verifier(bank: Bank) -> BankTickets:
    return BankTickets(bank.keys_file, ISSUER)


def refused(verifier: BankTickets, ticket: str) -> str:
    with pytest.raises(CodeInvalid) as refusal:
        verifier.verify(ticket, NOW)
    assert refusal.value.metadata == {"kind": "ticket"}
    assert refusal.value.field == "bank_ticket"
    return refusal.value.message


def test_a_ticket_says_who_the_customer_is(bank: Bank, verifier: BankTickets) -> None:
    ticket = bank.ticket(
        "r-1", jti="t-1", person_ref="p-1", customer_kind="other-bank",
        birth_date="2013-02-28", guardian_ref="r-2",
    )  # fmt: skip
    until = datetime.fromtimestamp(NOW_S + 65, UTC)
    said = verifier.verify(ticket, NOW)
    assert said == BankCustomer("r-1", "p-1", 3, datetime(2013, 2, 28).date(), "r-2", "t-1", until)


def test_a_ticket_needs_to_say_no_more_than_the_customer(bank: Bank, verifier: BankTickets) -> None:
    said = verifier.verify(bank.ticket("r-1"), NOW)
    assert (said.person_ref, said.customer_kind, said.birth_date, said.guardian_ref) == (
        "", 0, None, "",
    )  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"iat": NOW_S - 60, "exp": NOW_S + 60},
        {"iat": NOW_S - 60, "exp": NOW_S - 4},
        {"iat": NOW_S + 5, "exp": NOW_S + 65},
        {"aud": ["other", "carbonaccount"]},
        {"sub": "r" * 64},
        {"customer_kind": "cardholder"},
        {"birth_date": "2026-04-02"},
        {"birth_date": "2020-02-29"},
    ],
)
def test_a_ticket_inside_its_border_is_taken(
    bank: Bank, verifier: BankTickets, changed: dict[str, Any]
) -> None:
    verifier.verify(bank.ticket(**changed), NOW)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"iat": NOW_S - 60, "exp": NOW_S + 61}, "longer than 120 s"),
        ({"iat": NOW_S - 60, "exp": NOW_S - 5}, "expired"),
        ({"iat": NOW_S + 6, "exp": NOW_S + 66}, "wrong iat"),
        ({"nbf": NOW_S + 6}, "wrong nbf"),
        ({"iat": None}, "wrong iat"),
        ({"iat": NOW_S + 0.5}, "no whole seconds"),
        ({"iat": True}, "wrong iat"),
        ({"exp": None}, "wrong exp"),
        ({"exp": "soon"}, "wrong exp"),
        ({"exp": 10**400}, "longer"),
        ({"iss": "another bank"}, "wrong iss"),
        ({"iss": None}, "wrong iss"),
        ({"aud": "another suite"}, "wrong aud"),
        ({"aud": ["another suite"]}, "wrong aud"),
        ({"aud": None}, "wrong aud"),
        ({"jti": None}, "wrong jti"),
        ({"jti": ""}, "wrong jti"),
        ({"jti": 7}, "wrong jti"),
        ({"jti": "j" * 65}, "wrong jti"),
        ({"sub": None}, "wrong sub"),
        ({"sub": 7}, "wrong sub"),
        ({"sub": "r" * 65}, "wrong sub"),
        ({"sub": "r\n1"}, "wrong sub"),
        ({"sub": "r\ud800"}, "wrong sub"),
        ({"person_ref": 7}, "wrong person_ref"),
        ({"person_ref": ["p"]}, "wrong person_ref"),
        ({"customer_kind": "king"}, "wrong customer_kind"),
        ({"customer_kind": 1}, "wrong customer_kind"),
        ({"birth_date": "2026-04-03"}, "wrong birth_date"),
        ({"birth_date": "2021-02-29"}, "wrong birth_date"),
        ({"birth_date": "2020-W01-1"}, "wrong birth_date"),
        ({"birth_date": 20200101}, "wrong birth_date"),
        ({"guardian_ref": {}}, "wrong guardian_ref"),
    ],
)
def test_a_ticket_outside_its_border_is_refused(
    bank: Bank, verifier: BankTickets, changed: dict[str, Any], fault: str
) -> None:
    name = next(iter(changed))
    if name == "sub" and changed["sub"] == "r\ud800":  # as JSON writes it, which no text is
        assert fault in refused(verifier, _with_body(bank, '{"sub":"r\\ud800"}'))
        return
    message = refused(verifier, bank.ticket(**changed))
    assert fault in message
    assert "ask the bank for a new one" in message


def _with_body(bank: Bank, more: str) -> str:
    """A ticket signed over JSON that our own writer would not write."""
    claims = {"iss": ISSUER, "aud": "carbonaccount", "jti": "j", "iat": NOW_S, "exp": NOW_S + 60}
    body = json.dumps(claims)[:-1] + "," + more[1:]
    return jws.serialize_compact({"alg": "ES256", "kid": "bank-1"}, body.encode(), bank.key)


def _head(fields: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def _tampered(ticket: str) -> str:
    head, body, signature = ticket.split(".")
    data = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return f"{head}.{_head({**data, 'sub': 'somebody else'})}.{signature}"


def _without_signature(ticket: str) -> str:
    return f"{_head({'alg': 'none', 'kid': 'bank-1'})}.{ticket.split('.')[1]}."


def _none_with_signature(ticket: str) -> str:
    return _head({"alg": "none", "kid": "bank-1"}) + ticket[ticket.index(".") :]


def _nested(ticket: str) -> str:
    deep = base64.urlsafe_b64encode(b"[" * 380).decode().rstrip("=")
    return deep + ticket[ticket.index(".") :]


@pytest.mark.parametrize(
    "spoil",
    [_tampered, _without_signature, _none_with_signature, _nested, lambda t: t[:-3],
     lambda t: t + "x", lambda t: "", lambda t: "a.b.c", lambda t: "..", lambda t: t + "." + t,
     lambda t: "é" + t, lambda t: "\ud800"],
)  # fmt: skip
def test_a_ticket_that_was_touched_is_refused(
    bank: Bank, verifier: BankTickets, spoil: Callable[[str], str]
) -> None:
    ticket = bank.ticket()
    verifier.verify(ticket, NOW)
    assert "not signed by a key of the bank" in refused(verifier, spoil(ticket))


def test_a_ticket_by_another_key_or_algorithm_is_refused(bank: Bank, verifier: BankTickets) -> None:
    public = OctKey.import_key(bank.keys_file.read_bytes())
    forged = [
        bank.ticket(key=ECKey.generate_key("P-256")),
        bank.ticket(header={"kid": "bank-2"}),
        bank.ticket(header={"kid": ""}),
        bank.ticket(key=public, header={"alg": "HS256"}),
        bank.ticket(key=RSAKey.generate_key(2048), header={"alg": "RS256"}),
    ]
    for ticket in forged:
        assert "not signed by a key of the bank" in refused(verifier, ticket)


def test_a_bank_changes_its_keys_while_we_run(
    bank: Bank, verifier: BankTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bank.ticket()
    new = ECKey.generate_key("P-256")
    other_kind = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "rsa"}
    keys = [{**new.as_dict(private=False), "kid": "bank-2"}, other_kind]
    bank.keys_file.write_text(json_web_key_set(keys))
    monkeypatch.setattr("shared.rpc.jwks.LOOK_S", 0)
    verifier.verify(bank.ticket(key=new, header={"kid": "bank-2"}), NOW)
    assert "not signed" in refused(verifier, old)
    bank.keys_file.unlink()  # a file that is gone changes nothing
    verifier.verify(bank.ticket(key=new, header={"kid": "bank-2"}), NOW)


def test_a_bank_needs_keys_that_can_be_read_and_a_name(bank: Bank, tmp_path: Path) -> None:
    open_bank_tickets(str(bank.keys_file), ISSUER, tmp_path).verify(bank.ticket(), NOW)
    with pytest.raises(SettingsInvalid, match="BANK_ISSUER is not set"):
        open_bank_tickets(str(bank.keys_file), "", tmp_path)
    with pytest.raises(FileNotFoundError):
        open_bank_tickets(str(tmp_path / "nowhere"), ISSUER, tmp_path)
    for broken in (
        "",
        "[]",
        '{"keys": 7}',
        '{"keys": [7]}',
        '{"keys": [{"kid": "x", "crv": "P-256"}]}',
    ):
        bank.keys_file.write_text(broken)
        with pytest.raises(KeysBroken, match=r"bank\.jwks holds no keys"):
            open_bank_tickets(str(bank.keys_file), ISSUER, tmp_path)


@pytest.mark.parametrize(
    ("born", "of_age"),
    [
        ("2012-04-01", "2026-04-01"),
        ("2012-02-28", "2026-02-28"),
        ("2012-02-29", "2026-03-01"),
        ("2012-03-01", "2026-03-01"),
        ("2012-12-31", "2026-12-31"),
    ],
)
def test_a_child_is_its_own_from_the_fourteenth_birthday_on(born: str, of_age: str) -> None:
    holder = Holder("r", "", 0, datetime.fromisoformat(born).date())
    day = date_to_day(datetime.fromisoformat(of_age).date())
    assert holder.own_from_day(day - 1) == day
    assert holder.own_from_day(day) == 0
    assert holder.own_from_day(0) == day


def test_whose_birthday_nobody_knows_is_no_child() -> None:
    assert Holder("r", "", 0, None).own_from_day(0) == 0


@pytest.mark.parametrize("number", [1, 2**63 - 1])
def test_a_session_is_found_by_its_name(number: int) -> None:
    assert session_id_of(session_name(number)) == number


@pytest.mark.parametrize(
    "name",
    ["", "sessions/", "sessions/0000000000000", "sessions/000000000000u", "sessions/00000000000001",
     "accounts/0000000000001", "sessions/000000000000é", "sessions/8000000000000"],
)  # fmt: skip
def test_what_is_no_name_of_a_session_is_refused(name: str) -> None:
    with pytest.raises(FieldInvalid, match="must be sessions/"):
        session_id_of(name)
