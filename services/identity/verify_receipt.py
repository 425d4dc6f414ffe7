"""Verifies a signed receipt offline: python verify_receipt.py receipt.jws keys.jwks

One file, Python's standard library and nothing else, so that anybody can read all that it
trusts. `receipt.jws` is the compact form of a receipt, a household's shares or the manifest of
an archive; `keys.jwks` is what SessionService.ListSigningKeys publishes as `jwks`. Prints what
was signed and ends with 0, or says what is wrong and ends with 1.

A signature is ECDSA on P-256 with SHA-256 (ES256, RFC 7518). Nothing is secret here, so the
arithmetic is in plain integers and takes no care to hide its time. Whoever has one signature of
a text can write a second one (n - s for s); neither lets anybody change the text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

RECEIPT_TYP = "consent-receipt+jws"
# A manifest has 208 bytes for each receipt of the copy, so this is enough for 80,000 of them; and a
# file that is none of ours does not fill the memory.
FILE_BYTES_MAX = 16 << 20

# The curve P-256 (FIPS 186-4, D.1.2.3): y^2 = x^3 - 3x + B modulo P, with a point G of order N.
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None  # None is the point at infinity


class Wrong(Exception):
    """The receipt or the keys cannot be trusted; the text says why."""


def on_curve(point: tuple[int, int]) -> bool:
    """Whether both coordinates are in range and solve the equation."""
    x, y = point
    return 0 <= x < P and 0 <= y < P and (y * y - x * x * x + 3 * x - B) % P == 0


def add(one: Point, other: Point) -> Point:
    """The sum of two points of the curve."""
    if one is None or other is None:
        return other if one is None else one
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    if one == other:
        slope = 3 * (x1 * x1 - 1) * pow(2 * y1, -1, P) % P
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, P) % P
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def verifies(key: tuple[int, int], message: bytes, signature: bytes) -> bool:
    """Whether `signature` (r and s, 32 bytes each) over `message` belongs to the key."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or not 0 < r < N or not 0 < s < N or not on_curve(key):
        return False
    inverse = pow(s, -1, N)
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    of_base, of_key = digest * inverse % N, r * inverse % N
    both, total = add(G, key), None
    for bit in range(255, -1, -1):  # of_base * G + of_key * key, both at once
        total = add(total, total)
        pair = (of_base >> bit & 1, of_key >> bit & 1)
        total = add(total, {(0, 0): None, (1, 0): G, (0, 1): key, (1, 1): both}[pair])
    return total is not None and total[0] % N == r


def read_base64url(text: str, what: str) -> bytes:
    """The bytes of base64url without padding, in its one spelling."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"{what} is not base64url without padding") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise Wrong(f"{what} is not base64url in its one spelling")
    return data


def read_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object; a key that is given twice is refused, since readers disagree about it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, value in pairs:
            if name in row:
                raise Wrong(f"{what} has the key {name!r} twice")
            row[name] = value
        return row

    def refuse(word: str) -> Any:
        raise Wrong(f"{what} has {word}, which is no JSON")

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise Wrong(f"{what} is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise Wrong(f"{what} is not a JSON object")
    return value


def read_key(jwks: bytes, kid: str) -> tuple[int, int]:
    """The point of the one key of the set that is called `kid`."""
    keys = read_json(jwks, "the key set").get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise Wrong("the key set has no list of keys")
    named = [key for key in keys if key.get("kid") == kid]
    if len(named) != 1:
        raise Wrong(f"the key set has {len(named)} keys with kid {kid!r}; there must be one")
    key = named[0]
    for name, wanted in (("kty", "EC"), ("crv", "P-256"), ("alg", "ES256"), ("use", "sig")):
        if key.get(name, None if name in ("kty", "crv") else wanted) != wanted:
            raise Wrong(f"key {kid!r} has {name} {key.get(name)!r}; it must be {wanted!r}")
    if "verify" not in key.get("key_ops", ["verify"]):
        raise Wrong(f"key {kid!r} has key_ops {key['key_ops']!r} without 'verify'")
    point = []
    for name in ("x", "y"):
        if not isinstance(key.get(name), str):
            raise Wrong(f"key {kid!r} has no {name}")
        data = read_base64url(key[name], f"{name} of key {kid!r}")
        if len(data) != 32:
            raise Wrong(f"{name} of key {kid!r} has {len(data)} bytes; it must have 32")
        point.append(int.from_bytes(data, "big"))
    x, y = point
    if not on_curve((x, y)):
        raise Wrong(f"key {kid!r} is no point of the curve P-256")
    return x, y


def verify(jws: str, jwks: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a compact JWS that one of the keys signed; Wrong otherwise."""
    parts = jws.split(".")
    if len(parts) != 3 or not all(parts):
        raise Wrong("the receipt is not three parts with a dot between them")
    header = read_json(read_base64url(parts[0], "the header"), "the header")
    if header.get("alg") != "ES256":
        raise Wrong(f"the header has alg {header.get('alg')!r}; only 'ES256' is a signature here")
    if "crit" in header:
        raise Wrong("the header has crit, and no extension is known here")
    for name in ("kid", "typ"):
        if not isinstance(header.get(name), str):
            raise Wrong(f"the header has no {name}")
    key = read_key(jwks, header["kid"])
    signature = read_base64url(parts[2], "the signature")
    if len(signature) != 64:
        raise Wrong(f"the signature has {len(signature)} bytes; it must have 64")
    if not verifies(key, f"{parts[0]}.{parts[1]}".encode(), signature):
        raise Wrong(f"the signature does not belong to this text and key {header['kid']!r}")
    return header, read_json(read_base64url(parts[1], "the payload"), "the payload")


def check_receipt(receipt: dict[str, Any]) -> None:
    """That the texts in a receipt are those of its digests."""
    notice = receipt["pii_processing"]["privacy_notice"]
    words = f"{notice['notice_zh']}\n{notice['notice_en']}".encode()
    if hashlib.sha256(words).hexdigest() != notice["notice_digest"]:
        raise Wrong("notice_digest is not that of the notice in the receipt")
    if "mandate" in receipt:
        terms = {
            name: value
            for name, value in receipt["mandate"].items()
            if name not in ("fee_source", "mandate_digest")
        }
        words = json.dumps(
            terms, ensure_ascii=False, sort_keys=True, separators=(",", ":")
        ).encode()
        if hashlib.sha256(words).hexdigest() != receipt["mandate"]["mandate_digest"]:
            raise Wrong("mandate_digest is not that of the mandate in the receipt")


def receipt_lines(receipt: dict[str, Any]) -> list[str]:
    """A receipt for people."""
    event, processing = receipt["event"], receipt["pii_processing"]
    notice, purpose = processing["privacy_notice"], processing["purposes"][0]
    kinds = [
        f"{kind['pii_type_zh']} ({kind['pii_type_en']})" for kind in processing["pii_information"]
    ]
    period = event.get("validity_duration", {})
    lines = [
        f"account    {receipt['pii_principal_id']}",
        f"consent    {receipt['consent']}",
        f"event      {event['event_state']} at {event['event_time']} by {event['entity_id']}",
        f"guardian   {'decided' if event['decided_by_guardian'] else 'no'}",
        f"scope      {notice['scope']}: {purpose['title_zh']} ({purpose['title_en']})",
        f"purpose    {purpose['purpose']} of {purpose['category']}: {purpose['description_zh']} "
        f"({purpose['description_en']})",
        f"recipient  {', '.join(party['party_name'] for party in processing['recipients'])}",
        f"data       {', '.join(kinds)}",
        f"kept       {processing['retention_period']['days_after_account_ends']} days after the "
        f"account ends; {processing['retention_period']['source']}",
    ]
    if period:
        lines.append(
            f"covers     {period['cover_from_time']} until {period.get('expire_time', 'withdrawn')}"
        )
    if "confirmation" in event:
        confirmation = event["confirmation"]
        lines.append(f"confirmed  {confirmation['confirm_time']} on {confirmation['screen']}")
    if "cause" in event:
        lines.append(f"cause      {event['cause']}")
    for name in ("receipt_id", "record_id", "supersedes"):
        if name in receipt:
            lines.append(f"{name:<10} {receipt[name]}")
    lines.append(f"notice     version {notice['version']}, SHA-256 {notice['notice_digest']}")
    lines += [f"           {notice['notice_zh']}", f"           {notice['notice_en']}"]
    for name, value in receipt.get("mandate", {}).items():
        lines.append(f"mandate    {name}: {value}")
    return lines


def main(arguments: list[str]) -> int:
    """The exit code: 0 when the receipt holds, 1 when it does not, 2 when it was called wrongly."""
    if len(arguments) != 2:
        print("usage: python verify_receipt.py receipt.jws keys.jwks", file=sys.stderr)
        return 2
    try:
        jws, jwks = (_read(Path(name)) for name in arguments)
        header, payload = verify(jws.decode("ascii", "replace").strip(), jwks)
        lines = [f"signed     by key {header['kid']} as {header['typ']}"]
        if header["typ"] == RECEIPT_TYP:
            check_receipt(payload)
            lines += receipt_lines(payload)
        else:
            lines += json.dumps(payload, ensure_ascii=False, indent=2, sort_keys=True).split("\n")
    except Wrong as error:
        print(f"wrong: {error}", file=sys.stderr)
        return 1
    except (KeyError, TypeError, IndexError, AttributeError):
        print("wrong: what is signed has not the shape of a receipt", file=sys.stderr)
        return 1
    for line in lines:
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))
    return 0


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise Wrong(f"{path} has more than {FILE_BYTES_MAX} bytes")
    return data


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the terminal can show
    sys.exit(main(sys.argv[1:]))
