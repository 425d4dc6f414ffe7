"""Tokens: what is taken, and what is refused for which cause."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from shared.refusal import TokenInvalid
from shared.rpc.caller import KINDS, Caller
from shared.rpc.keyring import Signer
from shared.rpc.tokens import (
    AUDIENCE,
    ISSUER,
    SIGNING_FILE,
    VERIFYING_FILE,
    TokenVerifier,
    load_or_make_key,
    make_token,
)

OWN, WARD, OTHER = (f"accounts/{letter * 13}" for letter in "abc")


@pytest.fixture
def key(tmp_path: Path) -> ECKey:
    return load_or_make_key(tmp_path)


@pytest.fixture
def verifier(key: ECKey, tmp_path: Path) -> TokenVerifier:
    return TokenVerifier(tmp_path / VERIFYING_FILE)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "sources/x", "kind": "source", "iat": now}
    made = {**good, "exp": now + 60, **changed}
    return {name: value for name, value in made.items() if value is not None}


def signed(key: ECKey, **changed: Any) -> str:
    return jwt.encode({"alg": "ES256", "kid": key.thumbprint()}, claims(**changed), key)


def cause_of(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(TokenInvalid) as refusal:
        verifier.verify(f"Bearer {token}")
    return refusal.value.metadata["cause"]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_kind_of_caller_has_a_token(key: ECKey, verifier: TokenVerifier, kind: str) -> None:
    token = make_token(key, kind, f"{kind}s/x")
    for _ in range(2):  # checked, then remembered
        assert verifier.verify(f"Bearer {token}") == Caller(kind, f"{kind}s/x")


def test_a_customer_s_token_carries_reference_and_account(
    key: ECKey, verifier: TokenVerifier
) -> None:
    token = make_token(key, "customer", "bank-app", customer_ref="r-1", account="accounts/a")
    assert verifier.verify(f"bearer {token}") == Caller("customer", "bank-app", "r-1", "accounts/a")


def test_a_customer_s_token_carries_what_the_bank_and_the_session_say(
    key: ECKey, verifier: TokenVerifier
) -> None:
    now = int(time.time())
    token = make_token(
        key, "customer", "sessions/s", person_ref="p-1", customer_kind=3, own_from_day=20_000,
        session="sessions/s", acts_for={WARD: now + 60, OTHER: now},
    )  # fmt: skip
    for _ in range(2):
        assert verifier.verify(f"Bearer {token}") == Caller(
            "customer", "sessions/s", person_ref="p-1", customer_kind=3, own_from_day=20_000,
            session="sessions/s", acts_for=(WARD,),
        )  # fmt: skip


def test_a_token_begins_when_it_is_told(key: ECKey, verifier: TokenVerifier) -> None:
    now = int(time.time())
    old = make_token(key, "source", "sources/x", lifetime_s=60, issue_s=now - 30)
    verifier.verify(f"Bearer {old}")
    over = make_token(key, "source", "sources/x", lifetime_s=60, issue_s=now - 60)
    assert cause_of(verifier, over) == "the token has expired"
    ahead = make_token(key, "source", "sources/x", lifetime_s=60, issue_s=now + 30)
    assert "iat" in cause_of(verifier, ahead)


def test_a_right_to_act_ends_at_its_moment_also_when_the_token_was_remembered(
    key: ECKey, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    monkeypatch.setattr(time, "time", lambda: now)
    acts_for = {WARD: now + 30, OTHER: now + 60}
    bearer = "Bearer " + make_token(key, "customer", "x", account=OWN, acts_for=acts_for)
    for moment, accounts in (
        (0, (WARD, OTHER)), (29, (WARD, OTHER)), (30, (OTHER,)), (59, (OTHER,)), (60, ()),
    ):  # fmt: skip
        monkeypatch.setattr(time, "time", lambda: now + moment)  # noqa: B023  # used at once
        for _ in range(2):
            who = verifier.verify(bearer)
            assert (who.account, who.acts_for) == (OWN, accounts)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("public", "x"), ("king", "kings/x"), ("source", "services/x"), ("source", "sources/"),
     ("operator", ""), ("customer", "")],
)  # fmt: skip
def test_no_token_is_made_for_what_is_no_caller(key: ECKey, kind: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"kind is|name is"):
        make_token(key, kind, name)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic abc", "x"])
def test_what_is_no_bearer_token_is_refused(verifier: TokenVerifier, authorization: str) -> None:
    with pytest.raises(TokenInvalid, match="not 'Bearer'"):
        verifier.verify(authorization)


def test_a_token_ends_when_it_expires_also_when_it_was_remembered(
    key: ECKey, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token(key, "source", "sources/x", lifetime_s=60)
    verifier.verify(f"Bearer {token}")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 58)
    verifier.verify(f"Bearer {token}")
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert cause_of(verifier, token) == "the token has expired"


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"aud": "other"}, "aud"),
        ({"aud": None}, "aud"),
        ({"iss": "elsewhere"}, "iss"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"sub": None}, "sub"),
        ({"kind": None}, "no kind"),
        ({"kind": "public"}, "no kind"),
        ({"kind": ["source"]}, "no kind"),
        ({"kind": "operator"}, "name is not one of a operator"),
        ({"sub": 7}, "sub"),
        ({"sub": ["sources/x"]}, "sub"),
        ({"iat": int(time.time()) + 3600}, "iat"),
        ({"customer_ref": 7}, "customer_ref"),
        ({"account": ["accounts/a"]}, "account"),
        ({"person_ref": {}}, "person_ref"),
        ({"customer_kind": "2"}, "customer_kind"),
        ({"customer_kind": True}, "customer_kind"),
        ({"customer_kind": 1.5}, "customer_kind"),
        ({"own_from_day": "20000"}, "own_from_day"),
        ({"session": 1}, "session"),
        ({"acts_for": [WARD]}, "acts_for"),
        ({"acts_for": {WARD: "9999999999"}}, "acts_for"),
        ({"acts_for": {WARD: True}}, "acts_for"),
        ({"acts_for": {WARD: 9e9}}, "acts_for"),
        ({"acts_for": {WARD: 9**11, "sessions/x": 9**11}}, "acts_for"),
        ({"acts_for": {"": 9**11}}, "acts_for"),
    ],
)
def test_a_signed_token_with_other_claims_is_refused(
    key: ECKey, verifier: TokenVerifier, changed: dict[str, Any], cause: str
) -> None:
    verifier.verify("Bearer " + signed(key))
    assert cause in cause_of(verifier, signed(key, **changed))


def tampered(token: str) -> str:
    head, body, signature = token.split(".")
    data = json.loads(base64.urlsafe_b64decode(body + "=="))
    data["sub"] = "sources/y"
    text = base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")
    return f"{head}.{text}.{signature}"


def unsigned(token: str) -> str:
    return f"{head_of(token, alg='none')}.{token.split('.')[1]}."


def renamed(token: str) -> str:
    _, body, signature = token.split(".")
    return f"{head_of(token, kid='other')}.{body}.{signature}"


def nested(token: str) -> str:
    deep = base64.urlsafe_b64encode(b"[" * 380).decode().rstrip("=")
    return deep + token[token.index(".") :]


def head_of(token: str, **changed: Any) -> str:
    data = json.loads(base64.urlsafe_b64decode(token.split(".", maxsplit=1)[0] + "=="))
    return base64.urlsafe_b64encode(json.dumps({**data, **changed}).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "spoil", [tampered, unsigned, renamed, nested, lambda t: t[:-3], lambda t: t + "x",
              lambda t: "a.b.c", lambda t: t.rpartition(".")[0]]
)  # fmt: skip
def test_a_token_that_was_touched_is_refused(
    key: ECKey, verifier: TokenVerifier, spoil: Callable[[str], str]
) -> None:
    token = make_token(key, "source", "sources/x")
    verifier.verify(f"Bearer {token}")
    assert cause_of(verifier, spoil(token)) == "the token is not signed by a known key"


def test_a_token_of_another_key_or_algorithm_is_refused(
    verifier: TokenVerifier, tmp_path: Path
) -> None:
    known, other = Signer(tmp_path, "tokens").key_id, ECKey.generate_key("P-256")
    forged = jwt.encode({"alg": "ES256", "kid": known}, claims(), other)
    # The public key is no secret: signed with it as one, a token would be anybody's.
    public = OctKey.import_key((tmp_path / VERIFYING_FILE).read_bytes())
    confused = jwt.encode({"alg": "HS256", "kid": known}, claims(), public)
    for token in (signed(other), forged, confused):
        assert cause_of(verifier, token) == "the token is not signed by a known key"


def test_a_token_names_its_key(key: ECKey, verifier: TokenVerifier) -> None:
    nameless = jwt.encode({"alg": "ES256"}, claims(), key)
    assert cause_of(verifier, nameless) == "the token is not signed by a known key"


def test_keys_are_made_once_and_the_private_one_is_private(key: ECKey, tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    assert (mode(SIGNING_FILE), mode(VERIFYING_FILE)) == (0o600, 0o644)
    assert load_or_make_key(tmp_path).as_pem() == key.as_pem()
    assert sorted(path.name for path in tmp_path.iterdir()) == [SIGNING_FILE, VERIFYING_FILE]


def made_by_another_process(directory: Path) -> bytes:
    return load_or_make_key(directory).as_pem()


def test_processes_that_start_together_have_one_key(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        keys = set(pool.map(made_by_another_process, [tmp_path] * 8))
    assert len(keys) == 1
    token = make_token(load_or_make_key(tmp_path), "source", "sources/x")
    TokenVerifier(tmp_path / VERIFYING_FILE).verify(f"Bearer {token}")
