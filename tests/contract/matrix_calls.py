"""The call of every cell of the authorisation matrix, on a running suite."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import grpc
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1.consent_pb2 import ConsentGrant
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from joserfc import jwt
from joserfc.jwk import ECKey
from matrix_cells import CALLERS, Endpoint, Who, listed_kind
from matrix_requests import Named, NotMade, make_request

from services.identity.upstream.bank_tickets import make_double_ticket
from services.launch.layout import SERVICES, Layout
from shared.rpc.jwks import ALGORITHM
from shared.rpc.status import reason_of
from shared.rpc.tokens import load_or_make_key, make_token
from tests.suite import BENCH, METRO

Cell = tuple[Endpoint, Who]
AT_ONCE = 32
UNARY_S = 30
SILENT_S = 3
"""A refusal comes at once; a stream that has said nothing for so long was admitted."""

OWN = {"source": BENCH, "partner": "partners/matrix", "service": "services/activity"}
OTHERS = {"source": METRO, "partner": "partners/other"}


@dataclass(frozen=True)
class Family:
    """The account of a customer whom the bank calls `ref`, and that of a child of theirs."""

    ref: str
    holder: str
    ward: str


class Matrix:
    """Opens accounts, makes tokens, and calls; `grant` stands wherever a consent is given."""

    def __init__(self, layout: Layout, grant: ConsentGrant) -> None:
        self._layout = layout
        self._grant = grant
        self._key = load_or_make_key(layout.keys)
        self._unknown_key = ECKey.generate_key("P-256")
        # Not grpc.aio: a stream that is refused before its first message was written ends there
        # with INTERNAL of the library's own, now and then.
        self._channels = {one: grpc.insecure_channel(layout.listen(one)) for one in SERVICES}
        self._stranger = self._open_family()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for channel in self._channels.values():
            channel.close()

    def ask(self, rows: Sequence[Endpoint]) -> dict[Cell, str]:
        """How the call of each cell ended: the code and, of a refusal, the reason.

        Each row has a family of its own, because some methods end what they are about.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            families = dict(zip(rows, pool.map(lambda _: self._open_family(), rows), strict=True))
            cells = [(row, who) for row in rows for who in CALLERS]
            ended = pool.map(lambda c: self._outcome(c[0], c[1], families[c[0]]), cells)
            return dict(zip(cells, ended, strict=True))

    def served(self) -> set[tuple[str, str]]:
        """Each service and the full names of what it says that it serves."""
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        return {
            (service, one.name)
            for service, channel in self._channels.items()
            for answer in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([asked]), timeout=UNARY_S
            )
            for one in answer.list_services_response.service
        }

    def _outcome(self, row: Endpoint, who: Who, family: Family) -> str:
        method = row.method
        try:
            request = make_request(method, self._named(who, family), self._grant)
        except NotMade as error:
            return f"not made: {error}"
        token = self._token(row, who, family)
        streams = (method.client_streaming, method.server_streaming)
        shape = "_".join("stream" if one else "unary" for one in streams)
        start = getattr(self._channels[row.service], shape)(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        try:
            ended = start(
                iter([request]) if method.client_streaming else request,
                metadata=_bearer(token) if token else None,
                timeout=SILENT_S if method.server_streaming else UNARY_S,
            )
            if method.server_streaming:
                next(ended, None)
                ended.cancel()
        except grpc.RpcError as error:
            status: Any = error
            return f"{status.code().name} {reason_of(error)}".strip()
        return "OK"

    def _named(self, who: Who, family: Family) -> Named:
        account = family.ward if "ward" in who.about else family.holder
        names = OWN
        if who.about == "other":
            account, names = self._stranger.holder, OTHERS
        return Named(account, (names["source"], names["partner"], _session(account)), who.kind)

    def _token(self, row: Endpoint, who: Who, family: Family) -> str:
        """The token of a cell; "" without one."""
        kind = listed_kind(row.method) if who.flaw else who.kind
        if kind == "public":
            return ""
        facts = _facts(who, family) if kind == "customer" else {}
        if who.flaw == "expired":
            facts |= {"issue_s": int(time.time()) - 3600, "lifetime_s": 3599}
        name = f"{kind}s/nobody" if who.stranger else OWN.get(kind, f"{kind}s/matrix")
        key = self._unknown_key if who.flaw == "unknown key" else self._key
        token = make_token(key, kind, name, **facts)
        if who.flaw == "wrong audience":
            header = {"alg": ALGORITHM, "kid": key.thumbprint()}
            token = jwt.encode(header, {**jwt.decode(token, key).claims, "aud": "elsewhere"}, key)
        return token

    def _open_family(self) -> Family:
        stub: Any = account_grpc.AccountServiceStub(self._channels["identity"])
        ref, new = f"matrix-{uuid.uuid4().hex}", account_pb2.Account()
        opening = account_pb.OpenAccountRequest(account=new, request_id=str(uuid.uuid4()))
        holder = stub.OpenAccount(opening, **self._holder(ref)).account.name
        born = datetime.now(UTC) - timedelta(days=365 * 10)
        ticket = make_double_ticket(
            self._layout.keys, f"child-{uuid.uuid4().hex}", int(time.time()),
            birth_date=f"{born:%Y-%m-%d}", guardian_ref=ref,
        )  # fmt: skip
        opening_ward = account_pb.OpenWardAccountRequest(
            parent=holder, bank_ticket=ticket, account=new, request_id=str(uuid.uuid4())
        )
        ward = stub.OpenWardAccount(opening_ward, **self._holder(ref, holder)).account.name
        return Family(ref, holder, ward)

    def _holder(self, ref: str, account: str = "") -> dict[str, Any]:
        token = make_token(self._key, "customer", "matrix", customer_ref=ref, account=account)
        return {"metadata": _bearer(token), "timeout": UNARY_S}


def _facts(who: Who, family: Family) -> dict[str, Any]:
    """What the token of a customer says besides kind and name."""
    if who.about == "unopened":
        return {"customer_ref": f"matrix-{uuid.uuid4().hex}"}
    until_s = {"ward": int(time.time()) + 3600, "former ward": int(time.time()) - 1}
    return {
        "customer_ref": family.ref,
        "account": family.holder,
        "session": _session(family.holder),
        "acts_for": {family.ward: until_s[who.about]} if who.about in until_s else {},
    }


def _session(account: str) -> str:
    """A session for each account, which need not exist for what is asked here."""
    return account.replace("accounts/", "sessions/")


def _bearer(token: str) -> Iterable[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]
