"""BindingService: reads, calls, writes."""

from __future__ import annotations

from typing import Any

from carbonaccount.identity.v1 import binding_service_pb2 as pb
from carbonaccount.identity.v1 import binding_service_pb2_grpc as pb_grpc

from services.identity.domain.binding import Binding
from services.identity.rpc.consent_messages import read_grant
from services.identity.rpc.desk import Desk, token_of
from services.identity.rpc.messages import read_numbered_name, read_request
from services.identity.rpc.times import write_time
from services.identity.storage.bindings import BindingStore
from services.identity.usecases.bindings import end_binding, start_binding
from services.identity.usecases.confirm_binding import confirm_binding
from shared.ids import account_id_of, account_name
from shared.rpc.caller import caller
from shared.subject import read_subject_name, subject_digest


class BindingServicer(pb_grpc.BindingServiceServicer):
    """Gives codes, binds, lists and unbinds; `subject_secret` is the 32 bytes that identity and
    activity share."""

    def __init__(self, desk: Desk, *, subject_secret: bytes) -> None:
        self._desk = desk
        self._subject_secret = subject_secret

    async def StartBinding(
        self, request: pb.StartBindingRequest, context: Any
    ) -> pb.StartBindingResponse:
        """A one-time code for one partner."""
        desk, account_id = self._desk, account_id_of(request.parent, "parent")
        asked = read_request(request, "StartBinding", desk.secret)
        grant = read_grant(request.consent) if request.HasField("consent") else None
        started = await desk.change(
            lambda register: start_binding(
                asked, account_id, request.partner, grant,
                register=register, bindings=BindingStore(register.connection),
                scopes=desk.scopes, secret=desk.secret, clock=desk.clock,
            )
        )  # fmt: skip
        return pb.StartBindingResponse(
            code=started.code, expire_time=write_time(started.expire_time)
        )

    async def ConfirmBinding(
        self, request: pb.ConfirmBindingRequest, context: Any
    ) -> pb.ConfirmBindingResponse:
        """Binds the caller's own subject to the account of the code."""
        desk, partner = self._desk, caller().name
        asked = read_request(request, "ConfirmBinding", desk.secret)
        subject = subject_digest(
            self._subject_secret, read_subject_name(request.subject, "subject", partner)
        )
        bind_time = await desk.change(
            lambda register: confirm_binding(
                asked, partner, request.code, subject,
                register=register, bindings=BindingStore(register.connection),
                secret=desk.secret, clock=desk.clock,
            )
        )  # fmt: skip
        return pb.ConfirmBindingResponse(bind_time=write_time(bind_time))

    async def ListBindings(
        self, request: pb.ListBindingsRequest, context: Any
    ) -> pb.ListBindingsResponse:
        """A page of one account's bindings, newest first."""
        page, token = await self._desk.page(
            request,
            "ListBindings",
            lambda register, account_id, after, limit: BindingStore(register.connection).read_page(
                account_id, after[0] if after else None, limit
            ),
            lambda binding: (binding.number,),
        )
        return pb.ListBindingsResponse(
            bindings=[_write_binding(binding) for binding in page], next_page_token=token
        )

    async def EndBinding(
        self, request: pb.EndBindingRequest, context: Any
    ) -> pb.EndBindingResponse:
        """Unbinds from now on."""
        desk = self._desk
        account_id, number = read_numbered_name(request.name, "bindings")
        asked = read_request(request, "EndBinding", desk.secret)
        ended = await desk.change(
            lambda register: end_binding(
                asked, account_id, number,
                register=register, bindings=BindingStore(register.connection), clock=desk.clock,
            )
        )  # fmt: skip
        return pb.EndBindingResponse(
            binding=_write_binding(ended.binding),
            freshness_token=token_of(account_id, ended.position),
        )


def _write_binding(binding: Binding) -> pb.Binding:
    message = pb.Binding(
        name=f"{account_name(binding.account_id)}/bindings/{binding.number}",
        partner=binding.partner,
        bind_time=write_time(binding.bind_time),
    )
    if binding.end_time is not None:
        message.end_time.FromDatetime(binding.end_time)
    if binding.expire_time is not None:
        message.expire_time.FromDatetime(binding.expire_time)
    return message
