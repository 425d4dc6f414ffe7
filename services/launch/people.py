"""Customers of a demonstration: they open accounts, consent, and bind their partners' users."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable

import grpc
import grpc.aio
from carbonaccount.identity.v1 import account_pb2, consent_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import binding_service_pb2 as binding_pb
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from carbonaccount.identity.v1 import consent_service_pb2_grpc as consent_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.launch.clients import Clients

_LOOK_S = 0.02


class People:
    """Acts for customers who are known by a label; every step may be repeated."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._scopes: dict[str, consent_pb2.Scope] = {}

    async def grants(self, scopes: Iterable[str]) -> list[consent_pb2.ConsentGrant]:
        """Yes to these scopes, each on a screen of its own, from as early as its notice offers."""
        if not self._scopes:
            stub = consent_grpc.ConsentServiceStub(self._clients.operator("identity"))
            listed = await stub.ListScopes(consent_pb.ListScopesRequest())
            self._scopes = {scope.name: scope for scope in listed.scopes}
        return [_grant(self._scopes[name]) for name in scopes]

    async def open(self, label: str, scopes: Iterable[str], region: str = "440300") -> str:
        """The account of the customer, opened with consents when there was none."""
        operator = account_grpc.AccountServiceStub(self._clients.operator("identity"))
        try:
            known = await operator.LookUpAccount(
                account_pb.LookUpAccountRequest(customer_ref=label, purpose="demonstration")
            )
            return str(known.account.name)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        response = await self._clients.accounts(label).OpenAccount(
            account_pb.OpenAccountRequest(
                account=account_pb2.Account(display_name=label, region_code=region),
                consents=await self.grants(scopes),
                request_id=str(uuid.uuid4()),
            )
        )
        return str(response.account.name)

    async def bind(self, label: str, account: str, source: str) -> None:
        """Binds the rider whom `source` calls `label` to the account."""
        [link] = await self.grants([f"{source.replace('sources/', 'scopes/')}-link"])
        customer = self._clients.bindings("customer", "customers/demo", label, account)
        started = await customer.StartBinding(
            binding_pb.StartBindingRequest(
                parent=account, partner=source, consent=link, request_id=str(uuid.uuid4())
            )
        )
        await self._clients.bindings("source", source).ConfirmBinding(
            binding_pb.ConfirmBindingRequest(
                code=started.code,
                subject=f"{source}/subjects/{label}",
                request_id=str(uuid.uuid4()),
            )
        )

    async def until_known(self) -> None:
        """Until activity has followed every change of identity up to now."""
        heads = {h.shard: h.position for h in (await self._clients.progress("identity", "")).heads}
        while True:
            cursors = (await self._clients.progress("activity", "identity")).cursors
            if len(cursors) == len(heads) and all(heads[c.shard] <= c.position for c in cursors):
                return
            await asyncio.sleep(_LOOK_S)


def _grant(scope: consent_pb2.Scope) -> consent_pb2.ConsentGrant:
    grant = consent_pb2.ConsentGrant(
        scope=scope.name,
        notice_digest=scope.notice_digest,
        cover_from_time=(
            scope.cover_from_earliest_time if scope.HasField("cover_from_earliest_time") else None
        ),
        mandate_digest=scope.mandate.mandate_digest,
    )
    if scope.sensitive_data:
        grant.confirmation.confirm_time.CopyFrom(Timestamp(seconds=int(time.time())))
        grant.confirmation.screen = scope.name.replace("scopes/", "demo/")
    return grant
