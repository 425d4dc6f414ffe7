"""HouseholdService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from carbonaccount.identity.v1 import household_service_pb2 as pb
from carbonaccount.identity.v1 import household_service_pb2_grpc as pb_grpc

from services.identity.rpc import household_messages as messages
from services.identity.rpc.consent_messages import read_grant
from services.identity.rpc.desk import Desk
from services.identity.rpc.messages import read_reader, read_request
from services.identity.rpc.times import write_day, write_time
from services.identity.storage.access_log import note_access
from services.identity.storage.households import HouseholdStore
from services.identity.storage.register import Register
from services.identity.usecases import agree_shares, households, leave_households, read_households
from services.identity.usecases.acting import MEMBER, Request
from services.identity.usecases.household_room import Room
from services.identity.usecases.read_households import View
from services.identity.usecases.receipts import Signer
from shared.ids import account_id_of, from_us

Result = TypeVar("Result")


class HouseholdServicer(pb_grpc.HouseholdServiceServicer):
    """Founds, joins, leaves, splits and shows households, and how their grams are shared."""

    def __init__(self, desk: Desk, *, signer: Signer) -> None:
        self._desk = desk
        self._signer = signer

    async def CreateHousehold(
        self, request: pb.CreateHouseholdRequest, context: Any
    ) -> pb.CreateHouseholdResponse:
        """Founds a household."""
        founder_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "CreateHousehold", self._desk.secret)
        grant, person = read_grant(request.consent), messages.read_person(request)
        view = await self._show(
            asked,
            founder_id,
            lambda room: households.create_household(asked, founder_id, grant, person, room),
        )
        return pb.CreateHouseholdResponse(household=messages.write_household(view))

    async def InviteMember(
        self, request: pb.InviteMemberRequest, context: Any
    ) -> pb.InviteMemberResponse:
        """Gives a code."""
        inviter_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "InviteMember", self._desk.secret)
        invited = await self._change(lambda room: households.invite_member(asked, inviter_id, room))
        return pb.InviteMemberResponse(
            code=invited.code, expire_time=write_time(invited.expire_time)
        )

    async def AcceptInvitation(
        self, request: pb.AcceptInvitationRequest, context: Any
    ) -> pb.AcceptInvitationResponse:
        """Joins."""
        joiner_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "AcceptInvitation", self._desk.secret)
        code, grant = request.code, read_grant(request.consent)
        view = await self._show(
            asked,
            joiner_id,
            lambda room: households.accept_invitation(asked, joiner_id, code, grant, room),
        )
        return pb.AcceptInvitationResponse(household=messages.write_household(view))

    async def LeaveHousehold(
        self, request: pb.LeaveHouseholdRequest, context: Any
    ) -> pb.LeaveHouseholdResponse:
        """Leaves."""
        account_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "LeaveHousehold", self._desk.secret)
        end_day = await self._change(
            lambda room: leave_households.leave_household(asked, account_id, room)
        )
        return pb.LeaveHouseholdResponse(end_date=write_day(end_day))

    async def RemoveMember(
        self, request: pb.RemoveMemberRequest, context: Any
    ) -> pb.RemoveMemberResponse:
        """Takes another member out."""
        head_id = account_id_of(request.parent, "parent")
        member_id = account_id_of(request.member, "member")
        asked = read_request(request, "RemoveMember", self._desk.secret)
        view = await self._show(
            asked,
            head_id,
            lambda room: leave_households.remove_member(asked, head_id, member_id, room),
        )
        return pb.RemoveMemberResponse(household=messages.write_household(view))

    async def SplitHousehold(
        self, request: pb.SplitHouseholdRequest, context: Any
    ) -> pb.SplitHouseholdResponse:
        """Leaves for a new household."""
        mover_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "SplitHousehold", self._desk.secret)
        members = messages.read_members(request.members)
        grant, person = read_grant(request.consent), messages.read_person(request)
        parted = await self._change(
            lambda room: leave_households.split_household(
                asked, mover_id, members, grant, person, room
            )
        )
        return messages.write_parted(parted)

    async def ProposeShares(
        self, request: pb.ProposeSharesRequest, context: Any
    ) -> pb.ProposeSharesResponse:
        """Proposes weights."""
        proposer_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "ProposeShares", self._desk.secret)
        weights = messages.read_weights(request.weights)
        view = await self._show(
            asked,
            proposer_id,
            lambda room: agree_shares.propose_shares(asked, proposer_id, weights, room),
        )
        return pb.ProposeSharesResponse(household=messages.write_household(view))

    async def SignShares(
        self, request: pb.SignSharesRequest, context: Any
    ) -> pb.SignSharesResponse:
        """Agrees to weights."""
        signer_id = account_id_of(request.parent, "parent")
        asked = read_request(request, "SignShares", self._desk.secret)
        number = request.number
        view = await self._show(
            asked, signer_id, lambda room: agree_shares.sign_shares(asked, signer_id, number, room)
        )
        return pb.SignSharesResponse(household=messages.write_household(view))

    async def GetHousehold(
        self, request: pb.GetHouseholdRequest, context: Any
    ) -> pb.GetHouseholdResponse:
        """The account's household."""
        account_id = account_id_of(request.parent, "parent")
        asked = read_reader("GetHousehold")

        def look(room: Room) -> View:
            return read_households.get_household(asked, account_id, room)

        own = asked.by == account_id
        view = await (self._read(look) if own else self._show(asked, account_id, look))
        return pb.GetHouseholdResponse(household=messages.write_household(view))

    async def ListMemberships(
        self, request: pb.ListMembershipsRequest, context: Any
    ) -> pb.ListMembershipsResponse:
        """A page of the account's memberships, newest first."""
        page, token = await self._desk.page(
            request,
            "ListMemberships",
            lambda register, account_id, after, limit: read_households.list_memberships(
                account_id, after[0] if after else None, limit, room_of(register, self._desk)
            ),
            lambda own: (own.membership.member_number,),
        )
        return pb.ListMembershipsResponse(
            memberships=[messages.write_membership(own) for own in page], next_page_token=token
        )

    async def GetShares(self, request: pb.GetSharesRequest, context: Any) -> pb.GetSharesResponse:
        """The shares of a day, signed."""
        account_id, asked = account_id_of(request.parent, "parent"), read_reader("GetShares")
        share_day = messages.read_share_day(request)
        household_id, day, shares = await self._read(
            lambda room: read_households.read_shares(asked, account_id, share_day, room)
        )
        response = messages.write_shares(household_id, shares)
        statement = messages.shares_statement(household_id, day, shares)
        response.jws = self._signer.sign(statement, messages.STATEMENT_TYPE)
        return response

    async def _show(self, asked: Request, account_id: int, work: Callable[[Room], View]) -> View:
        """What `work` shows of a household; that a guardian sees its name is logged before.

        As a member: the log does not tell the others who among them is a child.
        """

        def look(register: Register) -> View:
            view = work(room_of(register, self._desk))
            if asked.by != account_id and view.history is not None:
                note_access(
                    register.connection, view.account.account_id, from_us(self._desk.clock()),
                    MEMBER, asked.method, "", ["display_name"],
                )  # fmt: skip
            return view

        return await self._desk.change(look)

    async def _change(self, change: Callable[[Room], Result]) -> Result:
        return await self._desk.change(lambda register: change(room_of(register, self._desk)))

    async def _read(self, read: Callable[[Room], Result]) -> Result:
        return await self._desk.read(lambda register: read(room_of(register, self._desk)))


def room_of(register: Register, desk: Desk) -> Room:
    """What the use cases of households work with, in the transaction of `register`."""
    return Room(
        register=register,
        households=HouseholdStore(register.connection),
        scopes=desk.scopes,
        secret=desk.secret,
        clock=desk.clock,
        # Made when a household closes, because what ends with an account knows this room too.
        also_end=lambda account, now: desk.ending(register).with_account(account, now),
    )
