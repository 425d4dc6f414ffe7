"""The two tokens of a session: a signed one to call with, a sealed one to renew it with."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from carbonaccount.identity.v1 import session_service_pb2 as pb
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.identity.domain.session import (
    ACCESS_LIFETIME,
    Holder,
    session_name,
)
from services.identity.rpc.times import write_time
from services.identity.usecases.sessions import SignedIn, token_refused
from shared.ids import account_name, civil_day, from_us, to_us
from shared.rpc.keyring import TOKENS, Signer
from shared.rpc.tokens import make_token

_ID_BYTES, _NONCE_BYTES = 8, 12
_PURPOSE = b"carbonaccount refresh token 1 "


@dataclass(frozen=True)
class Refresh:
    """What a refresh token carries: which generation of which session, and who signed in."""

    session_id: int
    generation: int
    expire_time: datetime
    holder: Holder


class SessionTokens:
    """Makes both tokens and opens refresh tokens, which nobody else can read or make."""

    def __init__(self, keys_dir: Path, secret: bytes) -> None:
        self._signer = Signer(keys_dir, TOKENS)
        self._secret = secret

    def write(self, signed_in: SignedIn, holder: Holder, now: datetime) -> pb.Session:
        """The session with fresh tokens, valid from `now` on."""
        session, issue_s = signed_in.session, int(now.timestamp())
        name = session_name(session.session_id)
        account = account_name(session.account_id) if session.account_id is not None else ""
        lifetime_s = int(ACCESS_LIFETIME.total_seconds())
        access_token = make_token(
            self._signer.key, "customer", name, customer_ref=holder.customer_ref, account=account,
            person_ref=holder.person_ref, customer_kind=holder.customer_kind,
            own_from_day=holder.own_from_day(civil_day(to_us(now))), session=name,
            acts_for=signed_in.acts_for, lifetime_s=lifetime_s, issue_s=issue_s,
        )  # fmt: skip
        refresh = Refresh(session.session_id, session.generation, session.expire_time, holder)
        return pb.Session(
            name=name,
            account=account,
            access_token=access_token,
            refresh_token=self.seal(refresh),
            expire_time=write_time(from_us((issue_s + lifetime_s) * 10**6)),
            refresh_expire_time=write_time(session.expire_time),
            acts_for=sorted(signed_in.acts_for),
        )

    def seal(self, refresh: Refresh) -> str:
        """The refresh token: session, nonce, and the rest sealed (AES-256-GCM), as URL text."""
        holder = refresh.holder
        born = holder.birth_date.isoformat() if holder.birth_date is not None else ""
        plain = json.dumps(
            [refresh.generation, to_us(refresh.expire_time), holder.customer_ref,
             holder.person_ref, holder.customer_kind, born]
        ).encode()  # fmt: skip
        session, nonce = refresh.session_id.to_bytes(_ID_BYTES), secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher(session).encrypt(nonce, plain, None)
        return base64.urlsafe_b64encode(session + nonce + sealed).decode().rstrip("=")

    def open(self, text: str, now: datetime) -> Refresh:
        """What a refresh token carries; TOKEN_INVALID when it is none of ours or has expired."""
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            session, nonce = data[:_ID_BYTES], data[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
            plain = self._cipher(session).decrypt(nonce, data[_ID_BYTES + _NONCE_BYTES :], None)
        except (ValueError, InvalidTag) as error:
            raise token_refused("the refresh token is none of ours") from error
        generation, expire_us, customer_ref, person_ref, kind, born = json.loads(plain)
        if from_us(expire_us) <= now:
            raise token_refused("the refresh token has expired")
        holder = Holder(customer_ref, person_ref, kind, date.fromisoformat(born) if born else None)
        return Refresh(int.from_bytes(session), generation, from_us(expire_us), holder)

    def _cipher(self, session: bytes) -> AESGCM:
        # A key for each session: random nonces repeat under none of them, however many sign in.
        derived = HKDF(SHA256(), 32, salt=None, info=_PURPOSE + session)
        return AESGCM(derived.derive(self._secret))
