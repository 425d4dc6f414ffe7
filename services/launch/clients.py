"""Asynchronous stubs of all services, with tokens of development callers."""

from __future__ import annotations

import grpc.aio
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.feed.v1 import feed_service_pb2 as feed_pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as feed_grpc
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import binding_service_pb2_grpc as binding_grpc
from carbonaccount.identity.v1 import consent_service_pb2_grpc as consent_grpc
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc as ledger_grpc

from services.launch.layout import Layout
from shared.rpc.channel import open_channel
from shared.rpc.tokens import load_or_make_key, make_token

_DAY_S = 86_400
_CONTRACT = (
    "carbonaccount.identity.v1.AccountService",
    "carbonaccount.identity.v1.BindingService",
    "carbonaccount.identity.v1.ConsentService",
    "carbonaccount.activity.v1.ActivityService",
    "carbonaccount.calculation.v1.AssessmentService",
    "carbonaccount.settlement.v1.LedgerService",
    "carbonaccount.feed.v1.FeedService",
)


class Clients:
    """Opens channels to the services of a layout; close it when done."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._key = load_or_make_key(layout.keys)
        self._channels: dict[tuple[str, str, str, str], grpc.aio.Channel] = {}

    def token(self, kind: str, name: str, customer_ref: str = "", account: str = "") -> str:
        """A token of one day for a development caller."""
        return make_token(
            self._key, kind, name, customer_ref=customer_ref, account=account, lifetime_s=_DAY_S
        )

    def channel(
        self, service: str, kind: str, name: str, customer_ref: str = "", account: str = ""
    ) -> grpc.aio.Channel:
        """A channel to `service` that calls as that caller."""
        key = (service, name, customer_ref, account)
        if key not in self._channels:
            token = self.token(kind, name, customer_ref, account)
            self._channels[key] = open_channel(
                self._layout.listen(service), token=lambda: token, services=_CONTRACT
            )
        return self._channels[key]

    def accounts(self, customer_ref: str) -> account_grpc.AccountServiceAsyncStub:
        """Accounts, as a customer of the bank."""
        name = "customers/demo"
        return account_grpc.AccountServiceStub(
            self.channel("identity", "customer", name, customer_ref)
        )

    def consents(self, customer_ref: str, account: str) -> consent_grpc.ConsentServiceAsyncStub:
        """Consents, as the holder of an account."""
        name = "customers/demo"
        return consent_grpc.ConsentServiceStub(
            self.channel("identity", "customer", name, customer_ref, account)
        )

    def bindings(
        self, kind: str, name: str, customer_ref: str = "", account: str = ""
    ) -> binding_grpc.BindingServiceAsyncStub:
        """Bindings, as the holder of an account or as a partner."""
        return binding_grpc.BindingServiceStub(
            self.channel("identity", kind, name, customer_ref, account)
        )

    def activities(self, source: str) -> activity_grpc.ActivityServiceAsyncStub:
        """Activities, as a source."""
        return activity_grpc.ActivityServiceStub(self.channel("activity", "source", source))

    def operator(self, service: str) -> grpc.aio.Channel:
        """Any service, as an operator."""
        return self.channel(service, "operator", "operators/demo")

    def sibling(self, service: str) -> grpc.aio.Channel:
        """Any service, as a sibling."""
        return self.channel(service, "service", "services/demo")

    def ledger(self) -> ledger_grpc.LedgerServiceAsyncStub:
        """The ledger, as an operator."""
        return ledger_grpc.LedgerServiceStub(self.operator("settlement"))

    def assessments(self) -> assessment_grpc.AssessmentServiceAsyncStub:
        """Assessments, as an operator."""
        return assessment_grpc.AssessmentServiceStub(self.operator("calculation"))

    async def progress(self, service: str, feed: str) -> feed_pb.GetProgressResponse:
        """Heads and cursors of a service."""
        stub = feed_grpc.FeedServiceStub(self.operator(service))
        return await stub.GetProgress(feed_pb.GetProgressRequest(feed=feed))

    async def close(self) -> None:
        """Closes every channel."""
        for channel in self._channels.values():
            await channel.close()
