"""The stand-alone verifier: what it believes, and every way in which it must not."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from joserfc import errors, jws
from joserfc.jwk import ECKey
from receipt_house import (
    ACCOUNT_ID,
    DAY,
    NOTICES,
    NOW,
    SECRET,
    SENSITIVE,
    TRADE,
    consent_to,
    granted,
    noted,
    payload_of,
    refusal_of,
)

from services.identity import verify_receipt as verifier
from services.identity.domain.account import Event
from services.identity.domain.archive import MANIFEST_TYP, Listed, manifest_of
from services.identity.domain.operation import Kind, Operation, State
from services.identity.domain.receipt import RECEIPT_TYP
from services.identity.usecases.receipts import ReceiptMaker, receipts_of
from shared.rpc.keyring import Signer

SCRIPT = Path(verifier.__file__)
ES256 = jws.default_registry.get_alg("ES256")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def number(text: str) -> int:
    """The integer in base64url of a coordinate."""
    return int.from_bytes(verifier.read_base64url(text, "it"), "big")


@dataclass
class Desk:
    """A table with a receipt, the published keys, and the script."""

    place: Path
    signer: Signer
    capsys: pytest.CaptureFixture[str]

    @property
    def keys(self) -> str:
        return (self.place / "receipts.jwks").read_text()

    def sign(self, payload: bytes, typ: str = RECEIPT_TYP, **header: Any) -> str:
        """A JWS by the key of receipts, whatever it says."""
        head = {"alg": "ES256", "kid": self.signer.key_id, "typ": typ, **header}
        return self.sign_head(canonical(head), payload)

    def sign_head(self, head: bytes, payload: bytes) -> str:
        """A JWS over a header of any bytes."""
        text = f"{b64(head)}.{b64(payload)}"
        return f"{text}.{b64(ES256.sign(text.encode(), self.signer.key))}"

    def run(self, receipt: str, keys: str | None = None) -> tuple[int, str]:
        """Exit code, and all that was said."""
        (self.place / "receipt.jws").write_bytes(receipt.encode("utf-8", "surrogatepass"))
        (self.place / "keys.jwks").write_text(self.keys if keys is None else keys)
        code = verifier.main([str(self.place / "receipt.jws"), str(self.place / "keys.jwks")])
        out, err = self.capsys.readouterr()
        assert (code == 0) is (err == "")
        assert code == 0 or out == ""
        return code, out + err

    def wrong(self, receipt: str, because: str, keys: str | None = None) -> None:
        """Holds that it is not believed, for this reason."""
        code, said = self.run(receipt, keys)
        assert (code, because in said) == (1, True), said


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, Signer(tmp_path), capsys)


@pytest.fixture
def receipt(desk: Desk) -> str:
    """A receipt of a grant of a sensitive scope."""
    consent = consent_to(SENSITIVE)
    maker = ReceiptMaker(NOTICES, SECRET, desk.signer)
    return receipts_of([consent], [granted(consent)], NOW, maker=maker)[0].jws


# What it believes


def test_a_receipt_is_believed_and_told_to_people(desk: Desk, receipt: str) -> None:
    code, said = desk.run(receipt)
    assert code == 0
    for words in (
        f"by key {desk.signer.key_id} as consent-receipt+jws",
        "account    accounts/00000003nqk8n",
        "consent    accounts/00000003nqk8n/consents/1",
        "granted at 2026-06-01T12:00:00.000000Z by customer",
        "scopes/s2: 标题 (Title)",
        "COLLECT of GREEN_TRAVEL",
        "时间 (time), 里程 (distance)",
        "1096 days after the account ends; decision: three years",
        "covers     2026-06-01T12:00:00.000000Z until withdrawn",
        "confirmed  2026-06-01T11:59:59.999999Z on app/2",
        f"notice     version 1, SHA-256 {SENSITIVE.notice_digest.hex()}",
        "我同意 2",
        "I agree 2",
    ):
        assert words in said


def test_receipts_of_every_event_are_believed(desk: Desk) -> None:
    trade = consent_to(TRADE, expire_time=NOW + DAY, by_guardian=True)
    ended = consent_to(SENSITIVE, 2).ended(NOW + DAY)
    refused = refusal_of(TRADE, 3, NOW + 2 * DAY)
    events = [
        granted(trade, actor="guardian"),
        granted(ended),
        noted(Event.CONSENT_REVOKED, NOW + DAY, 2, actor="operators/desk", cause="closed"),
        noted(Event.CONSENT_REFUSED, NOW + 2 * DAY, 3),
    ]
    maker = ReceiptMaker(NOTICES, SECRET, desk.signer)
    receipts = receipts_of([trade, ended, refused], events, NOW + 3 * DAY, maker=maker)
    said = [desk.run(receipt.jws) for receipt in receipts]
    assert [code for code, _ in said] == [0] * 5
    assert [words.split("event      ")[1].split(" at ")[0] for _, words in said] == [
        "refused",
        "revoked",
        "expired",
        "granted",
        "granted",
    ]
    assert "mandate    venue: 深圳排放权交易所" in said[0][1]
    assert "by operators/desk" in said[1][1]
    assert "cause      closed" in said[1][1]
    assert "guardian   decided" in said[2][1]
    assert "until 2026-06-02T12:00:00.000000Z" in said[2][1]


def test_a_receipt_stays_good_when_the_key_is_replaced(desk: Desk, receipt: str) -> None:
    older = json.loads(desk.keys)["keys"]
    newer = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "newer"}
    assert desk.run(receipt, json.dumps({"keys": [newer, *older]}))[0] == 0


def test_whatever_else_we_sign_is_verified_and_shown(desk: Desk) -> None:
    shares = canonical(
        {"shares": [{"account": "accounts/x", "share_ppm": 1_000_000}], "日": "2026"}
    )
    signed = desk.sign(shares, "household-shares+jws")
    code, said = desk.run(signed)
    assert code == 0
    assert "as household-shares+jws" in said
    assert '"share_ppm": 1000000' in said
    assert '"日": "2026"' in said


def test_the_manifest_of_a_copy_with_thousands_of_receipts_is_believed(desk: Desk) -> None:
    copy = Operation(ACCOUNT_ID, 1, Kind.EXPORT, State.RUNNING, NOW, ())
    names = [f"identity/receipt-{number:05}-granted.jws" for number in range(1, 6_001)]
    files = [Listed(name, 4_321, hashlib.sha256(name.encode()).digest()) for name in names]
    signed = desk.signer.sign(manifest_of(copy, files, NOW), MANIFEST_TYP)
    assert len(signed) > 1 << 20
    code, said = desk.run(signed)
    assert code == 0
    assert f"as {MANIFEST_TYP}" in said
    assert said.count('"sha256": ') == 6_000
    assert f'"name": "{names[-1]}"' in said
    place = signed.index(".") + len(signed) // 2
    other = "B" if signed[place] == "A" else "A"
    desk.wrong(signed[:place] + other + signed[place + 1 :], "the signature does not belong")


def test_a_line_feed_after_the_receipt_is_no_part_of_it(desk: Desk, receipt: str) -> None:
    assert desk.run(receipt + "\n")[0] == 0


def test_it_runs_alone_with_python_and_nothing_else(
    desk: Desk, receipt: str, tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    shutil.copy(SCRIPT, alone / "verify_receipt.py")
    (alone / "receipt.jws").write_text(receipt)
    (alone / "keys.jwks").write_text(desk.keys)

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-I", "-S", "verify_receipt.py", *arguments]
        return subprocess.run(command, cwd=alone, capture_output=True, check=False)

    good = run("receipt.jws", "keys.jwks")
    assert (good.returncode, good.stderr) == (0, b"")
    assert "我同意 2".encode() in good.stdout
    (alone / "receipt.jws").write_text(receipt[:-4] + "AAAA")
    bad = run("receipt.jws", "keys.jwks")
    assert (bad.returncode, bad.stdout) == (1, b"")
    assert bad.stderr.startswith(b"wrong: the signature does not belong")
    assert run("receipt.jws").returncode == 2
    missing = run("nothing.jws", "keys.jwks")
    assert missing.returncode == 1
    assert b"nothing.jws cannot be read" in missing.stderr


def test_it_imports_the_standard_library_only() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text("utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


# Published signatures


# RFC 6979, appendix A.2.5: curve P-256 with SHA-256.
RFC_6979_KEY = (
    0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
)
RFC_6979 = [
    (
        b"sample",
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ),
    (
        b"test",
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    ),
]


@pytest.mark.parametrize(("message", "signature"), RFC_6979)
def test_the_signatures_of_rfc_6979_are_good_for_their_message_only(
    message: bytes, signature: str
) -> None:
    assert verifier.verifies(RFC_6979_KEY, message, bytes.fromhex(signature))
    assert not verifier.verifies(RFC_6979_KEY, message + b"x", bytes.fromhex(signature))


def test_the_signature_of_rfc_7515_is_good() -> None:
    # Appendix A.3: JWS using ECDSA P-256 SHA-256.
    text = (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
        "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    signature = verifier.read_base64url(
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        "it",
    )
    key = (
        number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
        number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
    )
    assert verifier.verifies(key, text.encode(), signature)
    assert not verifier.verifies(key, text.encode()[:-1], signature)


def test_two_hundred_keys_and_texts_are_judged_as_another_library_judges_them() -> None:
    dice = random.Random(27560)
    for turn in range(200):
        key = ECKey.generate_key("P-256")
        public = key.as_dict(private=False)
        point = (number(str(public["x"])), number(str(public["y"])))
        payload = dice.randbytes(dice.randrange(0, 300))
        signed = jws.serialize_compact({"alg": "ES256"}, payload, key)
        text, signature = signed.rsplit(".", 1)
        data = bytearray(verifier.read_base64url(signature, "it"))
        assert verifier.verifies(point, text.encode(), bytes(data))
        if turn % 4:
            continue
        data[dice.randrange(64)] ^= 1 << dice.randrange(8)
        with pytest.raises(errors.BadSignatureError):
            jws.deserialize_compact(f"{text}.{b64(bytes(data))}", key, algorithms=["ES256"])
        assert not verifier.verifies(point, text.encode(), bytes(data))


# Arithmetic at its edges


def times(factor: int, point: verifier.Point = verifier.G) -> tuple[int, int]:
    total: verifier.Point = None
    for bit in bin(factor % verifier.N)[2:]:
        total = verifier.add(total, total)
        if bit == "1":
            total = verifier.add(total, point)
    assert total is not None
    return total


def signature_by(secret: int, message: bytes, nonce: int) -> bytes:
    """A signature with a nonce of our choice, which nobody may ever do."""
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    r = times(nonce)[0] % verifier.N
    s = pow(nonce, -1, verifier.N) * (digest + r * secret) % verifier.N
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_the_order_of_the_base_point_is_what_it_is_said_to_be() -> None:
    assert verifier.on_curve(verifier.G)
    assert times(verifier.N - 1) == (verifier.G[0], verifier.P - verifier.G[1])
    assert verifier.add(times(verifier.N - 1), verifier.G) is None


@pytest.mark.parametrize("secret", [1, 2, verifier.N - 1, verifier.N - 2])
def test_keys_beside_the_base_point_are_keys_like_others(secret: int) -> None:
    key, signature = times(secret), signature_by(secret, b"text", 7)
    assert verifier.verifies(key, b"text", signature)
    assert not verifier.verifies(key, b"tex", signature)


def test_both_halves_of_the_sum_may_be_the_same_point_or_cancel() -> None:
    digest = int.from_bytes(hashlib.sha256(b"text").digest(), "big")
    r = times(7)[0] % verifier.N
    same = digest * pow(r, -1, verifier.N) % verifier.N
    assert verifier.verifies(times(same), b"text", signature_by(same, b"text", 7))
    cancel = r.to_bytes(32, "big") + (5).to_bytes(32, "big")
    assert not verifier.verifies(times(verifier.N - same), b"text", cancel)


@pytest.mark.parametrize("bad", [0, verifier.N, verifier.N + 1, 2**256 - 1])
@pytest.mark.parametrize("half", ["r", "s"])
def test_halves_of_a_signature_lie_between_zero_and_the_order(half: str, bad: int) -> None:
    good = signature_by(3, b"text", 7)
    assert verifier.verifies(times(3), b"text", good)
    data = bad.to_bytes(32, "big")
    assert not verifier.verifies(
        times(3), b"text", data + good[32:] if half == "r" else good[:32] + data
    )


def point_from(x: int) -> tuple[int, int]:
    """The first point of the curve whose x is not below this one."""
    square = (x**3 - 3 * x + verifier.B) % verifier.P
    y = pow(square, (verifier.P + 1) // 4, verifier.P)
    return (x, y) if y * y % verifier.P == square else point_from(x + 1)


@pytest.mark.parametrize("least", [1, verifier.N])
def test_the_sum_is_taken_modulo_the_order_and_a_half_of_a_signature_is_not(least: int) -> None:
    point = point_from(least)
    r, s = point[0] % verifier.N, 5
    digest = int.from_bytes(hashlib.sha256(b"text").digest(), "big")
    # The key under which (r, s) is a signature that ends at `point`; nobody knows its secret.
    key = times(pow(r, -1, verifier.N), verifier.add(times(s, point), times(-digest)))
    half = s.to_bytes(32, "big")
    assert verifier.verifies(key, b"text", r.to_bytes(32, "big") + half)
    assert not verifier.verifies(key, b"text", (r + verifier.N).to_bytes(32, "big") + half)


@pytest.mark.parametrize("length", [0, 32, 63, 65, 128])
def test_a_signature_has_64_bytes(length: int) -> None:
    good = signature_by(3, b"text", 7)
    assert not verifier.verifies(times(3), b"text", (good * 2)[:length])


def test_a_key_beside_the_curve_verifies_nothing() -> None:
    x, y = times(3)
    good = signature_by(3, b"text", 7)
    assert verifier.verifies((x, y), b"text", good)
    for point in ((x, y + 1), (x + verifier.P, y), (x, y - verifier.P), (0, 0)):
        assert not verifier.verifies(point, b"text", good)


# What it does not believe


def test_no_character_of_a_receipt_may_change(desk: Desk) -> None:
    signed = desk.sign(b'{"a":1}', "x")
    assert desk.run(signed)[0] == 0
    dice = random.Random(1)
    for place, character in enumerate(signed):
        others = [c for c in ALPHABET if c != character]
        for other in (dice.choice(others), dice.choice("=+/ \n\0é.")):
            changed = signed[:place] + other + signed[place + 1 :]
            if changed.strip() != signed:
                assert desk.run(changed)[0] == 1, (place, other)


def test_no_character_may_be_lost_doubled_or_added(desk: Desk) -> None:
    signed = desk.sign(b'{"a":1}', "x")
    for place in range(0, len(signed), 3):
        assert desk.run(signed[:place] + signed[place + 1 :])[0] == 1
        assert desk.run(signed[:place] + signed[place] + signed[place:])[0] == 1


@pytest.mark.parametrize("byte", range(64))
def test_no_byte_of_the_signature_may_change(desk: Desk, receipt: str, byte: int) -> None:
    text, signature = receipt.rsplit(".", 1)
    data = bytearray(verifier.read_base64url(signature, "it"))
    data[byte] ^= 1
    desk.wrong(f"{text}.{b64(bytes(data))}", "the signature does not belong to this text and key")


def tampered(receipt: str, change: Callable[[dict[str, Any]], object]) -> str:
    """The receipt with another payload under the old signature."""
    head, _, signature = receipt.split(".")
    payload = payload_of(receipt)
    change(payload)
    return f"{head}.{b64(canonical(payload))}.{signature}"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(pii_principal_id="accounts/00000003nqk8p"),
        lambda p: p["event"].update(event_state="revoked"),
        lambda p: p["event"].update(event_time="2026-06-01T12:00:00.000001Z"),
        lambda p: p["pii_processing"]["privacy_notice"].update(notice_en="I agree to all"),
        lambda p: p["pii_processing"]["recipients"].append({"party_name": "anybody"}),
        lambda p: p.update(extra=1),
    ],
)
def test_nothing_in_a_receipt_may_change(
    desk: Desk, receipt: str, change: Callable[[dict[str, Any]], object]
) -> None:
    assert desk.run(tampered(receipt, lambda p: None))[0] == 0
    desk.wrong(tampered(receipt, change), "the signature does not belong to this text")


def test_the_signature_of_another_receipt_is_none_of_this_one(desk: Desk, receipt: str) -> None:
    other = desk.sign(b"{}")
    desk.wrong(".".join([*receipt.split(".")[:2], other.split(".")[2]]), "does not belong")


def test_a_key_that_is_not_published_signs_nothing(desk: Desk, receipt: str) -> None:
    stranger = ECKey.generate_key("P-256")
    named = {**stranger.as_dict(private=False), "kid": "stranger"}
    desk.wrong(receipt, "0 keys with kid", json.dumps({"keys": [named]}))
    desk.wrong(receipt, "0 keys with kid", '{"keys":[]}')
    posing = {**named, "kid": desk.signer.key_id}
    desk.wrong(receipt, "does not belong", json.dumps({"keys": [posing]}))
    both = [posing, *json.loads(desk.keys)["keys"]]
    desk.wrong(receipt, "2 keys with kid", json.dumps({"keys": both}))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS256", "RS256", "ES384", "es256", "", 1])
def test_only_one_algorithm_is_a_signature(desk: Desk, receipt: str, alg: object) -> None:
    head = b64(canonical({"alg": alg, "kid": desk.signer.key_id, "typ": RECEIPT_TYP}))
    _, payload, signature = receipt.split(".")
    desk.wrong(f"{head}.{payload}.{signature}", f"alg {alg!r}")
    desk.wrong(desk.sign(b"{}", alg=alg), f"alg {alg!r}")


def test_none_without_a_signature_is_no_receipt(desk: Desk, receipt: str) -> None:
    head = b64(canonical({"alg": "none", "kid": desk.signer.key_id, "typ": RECEIPT_TYP}))
    desk.wrong(f"{head}.{receipt.split('.')[1]}.", "three parts")


def test_the_public_key_is_no_shared_secret(desk: Desk, receipt: str) -> None:
    head = b64(canonical({"alg": "HS256", "kid": desk.signer.key_id, "typ": RECEIPT_TYP}))
    text = f"{head}.{receipt.split('.')[1]}"
    code = hmac.digest(desk.signer.key.as_pem(private=False), text.encode(), "sha256")
    desk.wrong(f"{text}.{b64(code)}", "alg 'HS256'")


def test_a_key_in_the_header_is_not_trusted(desk: Desk) -> None:
    stranger = ECKey.generate_key("P-256")
    head = {"alg": "ES256", "kid": desk.signer.key_id, "typ": RECEIPT_TYP}
    head["jwk"] = stranger.as_dict(private=False)  # type: ignore[assignment]
    text = f"{b64(canonical(head))}.{b64(b'{}')}"
    desk.wrong(f"{text}.{b64(ES256.sign(text.encode(), stranger))}", "does not belong")


@pytest.mark.parametrize(
    ("head", "because"),
    [
        ({"crit": ["exp"]}, "crit"),
        ({"kid": None}, "no kid"),
        ({"kid": 5}, "no kid"),
        ({"typ": None}, "no typ"),
    ],
)
def test_a_header_says_what_it_must_and_no_extension(
    desk: Desk, head: dict[str, Any], because: str
) -> None:
    desk.wrong(desk.sign(b"{}", **head), because)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a", "a.b", "a.b.c", "e30.e30.e30", "e30.e30.e30.e30", "{}", "é.é.é"],
)
def test_what_is_no_receipt_is_refused_with_words(desk: Desk, text: str) -> None:
    assert desk.run(text)[0] == 1


@pytest.mark.parametrize(
    "head",
    [
        b'{"alg":"none","alg":"ES256"}',
        b'{"alg":"ES256","alg":"ES256"}',
        b'{"alg":"ES256","x":{"y":1,"y":1}}',
    ],
)
def test_a_key_of_the_header_stands_once(desk: Desk, head: bytes) -> None:
    desk.wrong(desk.sign_head(head, b"{}"), "twice")


def test_a_key_of_the_payload_stands_once(desk: Desk) -> None:
    assert desk.run(desk.sign(b'{"a":{"b":1}}', "x"))[0] == 0
    desk.wrong(desk.sign(b'{"a":{"b":1,"b":2}}', "x"), "the payload has the key 'b' twice")


def test_a_key_of_the_key_set_stands_once(desk: Desk, receipt: str) -> None:
    twice = desk.keys.replace('"kty"', '"kty":"RSA","kty"', 1)
    desk.wrong(receipt, "the key set has the key 'kty' twice", twice)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b'"x"', b"{", b"{}x", b"\xff", b"\xef\xbb\xbf{}", b'{"a":NaN}', b'{"a":"\\ud800"}',
     b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_payload_is_one_json_object(desk: Desk, payload: bytes) -> None:
    assert desk.run(desk.sign(payload, "x"))[0] == 1


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"kty": "RSA"}, "kty"),
        ({"kty": None}, "kty"),
        ({"crv": "secp256k1"}, "crv"),
        ({"crv": None}, "crv"),
        ({"alg": "ES384"}, "alg"),
        ({"use": "enc"}, "use"),
        ({"key_ops": ["sign"]}, "key_ops"),
        ({"x": None}, "no x"),
        ({"y": 5}, "no y"),
        ({"x": "AA"}, "has 1 bytes"),
        ({"y": "A" * 44}, "has 33 bytes"),
        ({"x": "A" * 43}, "no point of the curve"),
        ({"x": "_" * 42 + "8"}, "no point of the curve"),
        ({"x": "!" * 43}, "not base64url"),
        ({"x": "B" * 43}, "one spelling"),
    ],
)
def test_a_key_is_a_point_of_the_curve_for_signatures(
    desk: Desk, receipt: str, change: dict[str, Any], because: str
) -> None:
    keys = json.loads(desk.keys)
    for name, value in change.items():
        if value is None:
            del keys["keys"][0][name]
        else:
            keys["keys"][0][name] = value
    desk.wrong(receipt, because, json.dumps(keys))


@pytest.mark.parametrize("keys", ["", "[]", "{}", '{"keys":{}}', '{"keys":[1]}', "null", "\x00"])
def test_a_key_set_has_a_list_of_keys(desk: Desk, receipt: str, keys: str) -> None:
    assert desk.run(receipt, keys)[0] == 1


def test_a_signed_receipt_whose_notice_is_not_that_of_its_digest_is_refused(
    desk: Desk, receipt: str
) -> None:
    payload = payload_of(receipt)
    assert desk.run(desk.sign(canonical(payload)))[0] == 0
    payload["pii_processing"]["privacy_notice"]["notice_en"] += " and more"
    desk.wrong(desk.sign(canonical(payload)), "notice_digest is not that of the notice")


def test_a_signed_receipt_whose_mandate_is_not_that_of_its_digest_is_refused(desk: Desk) -> None:
    consent = consent_to(TRADE)
    maker = ReceiptMaker(NOTICES, SECRET, desk.signer)
    payload = payload_of(receipts_of([consent], [granted(consent)], NOW, maker=maker)[0].jws)
    assert desk.run(desk.sign(canonical(payload)))[0] == 0
    payload["mandate"]["fee_ppm"] = 1
    desk.wrong(desk.sign(canonical(payload)), "mandate_digest is not that of the mandate")


def test_a_signed_text_that_poses_as_a_receipt_is_refused(desk: Desk, receipt: str) -> None:
    desk.wrong(desk.sign(b"{}"), "has not the shape of a receipt")
    for name in ("event", "pii_processing"):
        for value in (5, [], {}):
            payload = {**payload_of(receipt), name: value}
            desk.wrong(desk.sign(canonical(payload)), "has not the shape of a receipt")


def test_nothing_in_a_receipt_can_command_the_terminal(desk: Desk) -> None:
    code, said = desk.run(desk.sign('{"a":"\u202e\\u001b[2J"}'.encode(), "x\x1b"))
    assert code == 0
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_a_file_of_sixteen_mebibytes_is_read_and_not_a_byte_more(desk: Desk, receipt: str) -> None:
    padding = " " * (verifier.FILE_BYTES_MAX - len(receipt))
    assert desk.run(receipt + padding)[0] == 0
    desk.wrong(receipt + padding + " ", "more than 16777216 bytes")
    desk.wrong(receipt, "more than 16777216 bytes", desk.keys + padding + " " * len(receipt))


def test_a_receipt_that_is_no_file_is_said_to_be_none(desk: Desk) -> None:
    assert verifier.main([str(desk.place), str(desk.place)]) == 1
    assert verifier.main([]) == 2
