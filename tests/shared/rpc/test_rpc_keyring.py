"""Keys: made once, published before they sign, followed while they change, and retired."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import time
from base64 import urlsafe_b64encode
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, KeySet
from typer.testing import CliRunner, Result

from shared.refusal import TokenInvalid
from shared.rpc import jwks
from shared.rpc.jwks import KeysBroken, PublicKeys
from shared.rpc.keyring import (
    RECEIPTS,
    TOKENS,
    KeyNeeded,
    Signer,
    load_or_make,
    published,
    published_file,
    retire,
    rotate,
    signing_file,
)
from shared.rpc.tokens import SIGNING_FILE, VERIFYING_FILE, TokenVerifier, make_token
from shared.service import ServiceSettings, build_server, service_token


@pytest.fixture
def looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "LOOK_S", 0)


def ids(directory: Path, purpose: str) -> list[str]:
    return [key.key_id for key in published(directory) if key.purpose == purpose]


def test_a_key_is_named_by_its_thumbprint_of_rfc_7638(tmp_path: Path) -> None:
    load_or_make(tmp_path, TOKENS)
    (key,) = published(tmp_path)
    required = {name: key.jwk[name] for name in ("crv", "kty", "x", "y")}
    text = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    assert key.key_id == urlsafe_b64encode(sha256(text).digest()).decode().rstrip("=")
    assert key.jwk == {**required, "kid": key.key_id, "use": "sig", "alg": "ES256"}


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Name and digest of every file that lay in the directory when that was last synced."""
    kept: set[tuple[str, str]] = set()
    sync = os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            kept.clear()
            kept.update(lying_in(tmp_path))

    monkeypatch.setattr(os, "fsync", note)
    return kept


def lying_in(directory: Path) -> set[tuple[str, str]]:
    return {(each.name, sha256(each.read_bytes()).hexdigest()) for each in directory.iterdir()}


def test_what_signs_and_what_verifies_it_is_on_the_disk_before_it_is_used(
    tmp_path: Path, synced: set[tuple[str, str]]
) -> None:
    load_or_make(tmp_path, RECEIPTS)
    assert synced == lying_in(tmp_path)
    rotate(tmp_path, RECEIPTS, 0)
    assert synced == lying_in(tmp_path)
    # Another process has made the key and was killed before it synced.
    signing_file(tmp_path, RECEIPTS).with_suffix(".copy").write_bytes(b"")
    synced.clear()
    Signer(tmp_path, RECEIPTS)
    assert synced == lying_in(tmp_path)


def test_private_keys_are_private_and_public_ones_are_not(tmp_path: Path) -> None:
    for purpose in (TOKENS, RECEIPTS):
        rotate(tmp_path, purpose, 0)
        for path, mode in ((signing_file, 0o600), (published_file, 0o644)):
            assert stat.S_IMODE(path(tmp_path, purpose).stat().st_mode) == mode
        assert '"d"' not in published_file(tmp_path, purpose).read_text()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["receipt-signing.pem", "receipts.jwks", SIGNING_FILE, VERIFYING_FILE]


def test_each_purpose_has_keys_of_its_own(tmp_path: Path) -> None:
    receipts, tokens = Signer(tmp_path), Signer(tmp_path, TOKENS)
    assert receipts.key_id != tokens.key_id
    assert [(key.key_id, key.purpose, key.current) for key in published(tmp_path)] == [
        (tokens.key_id, TOKENS, True), (receipts.key_id, RECEIPTS, True),
    ]  # fmt: skip
    forged = make_token(receipts.key, "operator", "operators/x")
    with pytest.raises(TokenInvalid):
        TokenVerifier(tmp_path / VERIFYING_FILE).verify(f"Bearer {forged}")


def test_a_signer_names_key_and_type_in_the_header(tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    keys = KeySet.import_key_set(json.loads(published_file(tmp_path, RECEIPTS).read_text()))
    signed = jws.deserialize_compact(signer.sign(b"{}", "receipt+jws"), keys, ["ES256"])
    assert signed.payload == b"{}"
    assert signed.headers() == {"alg": "ES256", "kid": signer.key_id, "typ": "receipt+jws"}


@pytest.mark.usefixtures("looking_always")
def test_after_a_rotation_the_new_key_signs_and_every_published_one_verifies(
    tmp_path: Path,
) -> None:
    signer = Signer(tmp_path, TOKENS)
    verifier = TokenVerifier(tmp_path / VERIFYING_FILE)
    tokens = [make_token(signer.key, "source", "sources/x")]
    for _ in range(3):
        new = rotate(tmp_path, TOKENS, 0)
        assert signer.key_id == new
        assert ids(tmp_path, TOKENS)[0] == new
        tokens.append(make_token(signer.key, "source", "sources/x"))
        for token in tokens:
            verifier.verify(f"Bearer {token}")
    assert len(ids(tmp_path, TOKENS)) == 4
    assert [key.current for key in published(tmp_path)] == [True, False, False, False]


def test_a_new_key_is_published_before_it_signs(tmp_path: Path) -> None:
    old = load_or_make(tmp_path, TOKENS).thumbprint()
    thread = threading.Thread(target=rotate, args=(tmp_path, TOKENS, 0.5))
    thread.start()
    while len(ids(tmp_path, TOKENS)) == 1:
        time.sleep(0.01)
    assert [key.current for key in published(tmp_path)] == [False, True]
    assert load_or_make(tmp_path, TOKENS).thumbprint() == old
    thread.join()
    assert [key.current for key in published(tmp_path)] == [True, False]


def test_a_rotation_that_broke_off_leaves_the_old_key_signing(tmp_path: Path) -> None:
    old = load_or_make(tmp_path, TOKENS).thumbprint()
    with pytest.raises(ValueError, match="sleep length must be non-negative"):
        rotate(tmp_path, TOKENS, -1)  # stands for a process that is killed in between
    assert load_or_make(tmp_path, TOKENS).thumbprint() == old
    half = ids(tmp_path, TOKENS)[0]
    assert half != old
    retire(tmp_path, half)
    assert ids(tmp_path, TOKENS) == [old]
    assert rotate(tmp_path, TOKENS, 0) == ids(tmp_path, TOKENS)[0]


def test_signers_and_verifiers_look_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    signer = Signer(tmp_path, TOKENS)
    verifier = TokenVerifier(tmp_path / VERIFYING_FILE)
    old = signer.key_id
    token = make_token(signer.key, "source", "sources/x")
    verifier.verify(f"Bearer {token}")
    new = rotate(tmp_path, TOKENS, 0)
    retire(tmp_path, old)
    monkeypatch.setattr(time, "monotonic", lambda: now + 0.99)
    assert signer.key_id == old
    verifier.verify(f"Bearer {token}")
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.01)
    assert signer.key_id == new
    with pytest.raises(TokenInvalid):
        verifier.verify(f"Bearer {token}")


@pytest.mark.usefixtures("looking_always")
def test_a_retired_key_verifies_no_longer_also_what_was_remembered(tmp_path: Path) -> None:
    signer = Signer(tmp_path, TOKENS)
    verifier = TokenVerifier(tmp_path / VERIFYING_FILE)
    old = signer.key_id
    token = make_token(signer.key, "source", "sources/x")
    rotate(tmp_path, TOKENS, 0)
    other = make_token(signer.key, "source", "sources/x")
    for each in (token, other, token):
        verifier.verify(f"Bearer {each}")
    retire(tmp_path, old)
    verifier.verify(f"Bearer {other}")
    with pytest.raises(TokenInvalid, match="not signed by a known key"):
        verifier.verify(f"Bearer {token}")


def test_the_key_that_signs_a_receipt_s_and_an_unknown_one_are_not_retired(
    tmp_path: Path,
) -> None:
    current, receipt = Signer(tmp_path, TOKENS).key_id, Signer(tmp_path).key_id
    rotate(tmp_path, RECEIPTS, 0)
    before = published(tmp_path)
    for key_id, why in (
        (current, "signs tokens now"), (receipt, "verified for ever"), ("x", "is published"),
    ):  # fmt: skip
        with pytest.raises(KeyNeeded, match=why):
            retire(tmp_path, key_id)
    assert published(tmp_path) == before


def rotated_by_another_process(directory: Path) -> str:
    return rotate(directory, TOKENS, 0)


def test_processes_that_rotate_at_once_lose_no_key(tmp_path: Path) -> None:
    first = load_or_make(tmp_path, TOKENS).thumbprint()
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(rotated_by_another_process, [tmp_path] * 8))
    assert set(ids(tmp_path, TOKENS)) == {first, *made}
    assert load_or_make(tmp_path, TOKENS).thumbprint() == ids(tmp_path, TOKENS)[0]


def the_former(directory: Path) -> ECKey:
    """A directory as it was before there was a ring: two files and nothing else."""
    key = ECKey.generate_key("P-256")
    directory.mkdir(exist_ok=True)
    (directory / SIGNING_FILE).write_bytes(key.as_pem(private=True))
    (directory / "token-verifying.pem").write_bytes(key.as_pem(private=False))
    return key


def test_the_one_key_of_before_is_the_first_of_the_ring(tmp_path: Path) -> None:
    key = the_former(tmp_path)
    assert load_or_make(tmp_path, TOKENS).thumbprint() == key.thumbprint()
    assert ids(tmp_path, TOKENS) == [key.thumbprint()]
    assert sorted(path.name for path in tmp_path.iterdir()) == [SIGNING_FILE, VERIFYING_FILE]
    token = make_token(key, "source", "sources/x")
    TokenVerifier(tmp_path / VERIFYING_FILE).verify(f"Bearer {token}")


def settings(keys: Path) -> ServiceSettings:
    return ServiceSettings(database_url="", listen="127.0.0.1:0", keys_dir=keys)


def test_a_service_that_starts_alone_publishes_the_key_of_before(tmp_path: Path) -> None:
    async def build() -> None:
        build_server(settings(tmp_path))

    with pytest.raises(FileNotFoundError):  # a service makes no key of its own
        asyncio.run(build())
    assert list(tmp_path.iterdir()) == []
    key = the_former(tmp_path)
    asyncio.run(build())
    assert ids(tmp_path, TOKENS) == [key.thumbprint()]


@pytest.mark.usefixtures("looking_always")
def test_a_service_s_own_token_is_kept_until_keys_rotate(tmp_path: Path) -> None:
    load_or_make(tmp_path, TOKENS)
    verifier = TokenVerifier(tmp_path / VERIFYING_FILE)
    token = service_token(settings(tmp_path), "activity")
    first = token()
    assert token() == first
    old = ids(tmp_path, TOKENS)[0]
    rotate(tmp_path, TOKENS, 0)
    retire(tmp_path, old)
    second = token()
    assert second != first
    assert verifier.verify(f"Bearer {second}").name == "services/activity"


@pytest.mark.usefixtures("looking_always")
def test_keys_that_are_gone_or_broken_later_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = make_token(load_or_make(tmp_path, TOKENS), "source", "sources/x")
    verifier = TokenVerifier(tmp_path / VERIFYING_FILE)
    path = tmp_path / VERIFYING_FILE
    good = path.read_bytes()
    for content in (b"", b"[]", b'{"keys": [{"kid": 7, "crv": "P-256"}]}', None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        verifier.verify(f"Bearer {token}")
        with pytest.raises((KeysBroken, FileNotFoundError)):
            PublicKeys(path)
    assert "keys.unreadable" in "".join(capsys.readouterr())
    path.write_bytes(good)
    verifier.verify(f"Bearer {token}")


def test_a_signing_key_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / SIGNING_FILE).write_text("no key")
    with pytest.raises(KeysBroken, match=r"token-signing\.pem holds no keys"):
        load_or_make(tmp_path, TOKENS)


def invoke(*words: str) -> Result:
    from services.__main__ import app  # not for the processes that import this module

    return CliRunner().invoke(app, words)


def test_the_commands_rotate_list_and_retire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBONACCOUNT_VAR_DIR", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    keys = tmp_path / "keys"

    def said(*words: str, code: int = 0) -> str:
        ended = invoke(*words)
        assert ended.exit_code == code, ended.output
        return ended.output

    old = load_or_make(keys, TOKENS).thumbprint()
    token = said("token", "source", "sources/x").strip()
    new = said("keys", "rotate", "tokens").strip()
    assert said("keys", "list").splitlines() == [
        f"{new}  tokens    signs now", f"{old}  tokens    verifies",
    ]  # fmt: skip
    assert TokenVerifier(keys / VERIFYING_FILE).verify(f"Bearer {token}").name == "sources/x"
    assert "signs tokens now" in said("keys", "retire", "--", new, code=2)
    said("keys", "retire", "--", old)
    said("keys", "retire", "--", old, code=2)
    assert ids(keys, TOKENS) == [new]
    said("keys", "rotate", "moon", code=2)
    receipt = said("keys", "rotate", "receipts").strip()
    assert ids(keys, RECEIPTS)[0] == receipt
    assert "for ever" in said("keys", "retire", "--", ids(keys, RECEIPTS)[1], code=2)


def test_the_token_command_says_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBONACCOUNT_VAR_DIR", str(tmp_path))
    one, two = "accounts/0000000000001", "accounts/0000000000002"
    words = ["token", "customer", "bank-app", "--person-ref", "p", "--customer-kind", "2",
             "--acts-for", one, "--acts-for", two]  # fmt: skip
    ended = invoke(*words)
    verifier = TokenVerifier(tmp_path / "keys" / VERIFYING_FILE)
    who = verifier.verify(f"Bearer {ended.output.strip()}")
    assert (who.person_ref, who.customer_kind, who.acts_for) == ("p", 2, (one, two))
    for wrong in (["--acts-for", "accounts/1"], ["--customer-kind", "4"]):
        assert invoke("token", "customer", "x", *wrong).exit_code == 2
    assert invoke("token", "king", "x").exit_code == 2
    ticket = ["bank-ticket", "--customer-ref", "r"]
    assert invoke(*ticket).exit_code == 0
    assert invoke(*ticket, "--customer-kind", "king").exit_code == 2
    assert invoke(*ticket, "--lifetime-s", "121").exit_code == 2
