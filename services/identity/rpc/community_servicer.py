"""CommunityService: reads, calls, writes."""

from __future__ import annotations

from typing import Any

from carbonaccount.identity.v1 import community_service_pb2 as pb
from carbonaccount.identity.v1 import community_service_pb2_grpc as pb_grpc

from services.identity.domain.community import Community, CommunityKind, community_name
from services.identity.rpc.desk import Desk
from services.identity.rpc.messages import read_plain, read_reader, read_request
from services.identity.rpc.times import write_time
from services.identity.storage.communities import CommunityStore
from services.identity.usecases.communities import (
    create_community,
    get_community,
    join_community,
    leave_community,
    list_communities,
)
from shared.ids import account_id_of
from shared.personal import looks_personal
from shared.refusal import FieldInvalid

_HEAD = "communities/"


class CommunityServicer(pb_grpc.CommunityServiceServicer):
    """Makes, shows, joins, leaves and lists communities."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateCommunity(
        self, request: pb.CreateCommunityRequest, context: Any
    ) -> pb.CreateCommunityResponse:
        """A group and the code that joins it."""
        desk = self._desk
        asked = read_request(request, "CreateCommunity", desk.secret)
        kind = _read_kind(request.kind)
        title_zh = _read_title(request.title_zh, "title_zh")
        title_en = _read_title(request.title_en, "title_en")
        community, code = await desk.change(
            lambda register: create_community(
                asked, kind, title_zh, title_en,
                register=register, communities=CommunityStore(register.connection),
                secret=desk.secret, clock=desk.clock,
            )
        )  # fmt: skip
        return pb.CreateCommunityResponse(community=_write_community(community), code=code)

    async def GetCommunity(
        self, request: pb.GetCommunityRequest, context: Any
    ) -> pb.GetCommunityResponse:
        """One group."""
        community_id = _read_community_name(request.community)
        community = await self._desk.read(
            lambda register: get_community(
                community_id, communities=CommunityStore(register.connection)
            )
        )
        return pb.GetCommunityResponse(community=_write_community(community))

    async def JoinCommunity(
        self, request: pb.JoinCommunityRequest, context: Any
    ) -> pb.JoinCommunityResponse:
        """Joins the group of a code."""
        desk, account_id = self._desk, account_id_of(request.parent, "parent")
        asked = read_request(request, "JoinCommunity", desk.secret)
        community = await desk.change(
            lambda register: join_community(
                asked, account_id, request.code,
                register=register, communities=CommunityStore(register.connection),
                secret=desk.secret, clock=desk.clock,
            )
        )  # fmt: skip
        return pb.JoinCommunityResponse(community=_write_community(community))

    async def LeaveCommunity(
        self, request: pb.LeaveCommunityRequest, context: Any
    ) -> pb.LeaveCommunityResponse:
        """Leaves a group."""
        desk, account_id = self._desk, account_id_of(request.parent, "parent")
        community_id = _read_community_name(request.community)
        asked = read_request(request, "LeaveCommunity", desk.secret)
        left = await desk.change(
            lambda register: leave_community(
                asked, account_id, community_id,
                register=register, communities=CommunityStore(register.connection),
                clock=desk.clock,
            )
        )  # fmt: skip
        return pb.LeaveCommunityResponse(leave_time=write_time(left))

    async def ListCommunities(
        self, request: pb.ListCommunitiesRequest, context: Any
    ) -> pb.ListCommunitiesResponse:
        """The groups that an account belongs to."""
        account_id, asked = account_id_of(request.parent, "parent"), read_reader("ListCommunities")
        communities = await self._desk.read(
            lambda register: list_communities(
                asked, account_id,
                register=register, communities=CommunityStore(register.connection),
                clock=self._desk.clock,
            )
        )  # fmt: skip
        return pb.ListCommunitiesResponse(
            communities=[_write_community(community) for community in communities]
        )


def _read_community_name(name: str) -> int:
    """The number of communities/{community}, which is written as an account's is."""
    try:
        if not name.startswith(_HEAD):
            raise FieldInvalid("community", "")
        return account_id_of("accounts/" + name[len(_HEAD) :])
    except FieldInvalid:
        raise FieldInvalid(
            "community",
            f"community is {name[:64]!r}; it must be {_HEAD} and 13 characters of base 32",
        ) from None


def _read_kind(kind: pb.Community.Kind.ValueType) -> CommunityKind:
    try:
        return CommunityKind(kind)
    except ValueError:
        raise FieldInvalid(
            "kind", f"kind is {kind}; it must be KIND_ESTATE, KIND_COMPANY or KIND_SCHOOL"
        ) from None


def _read_title(title: str, field: str) -> str:
    if not title.strip():
        raise FieldInvalid(field, f"{field} is blank; everybody sees it, so name the community")
    kind = looks_personal(title)
    if kind is not None:
        raise FieldInvalid(field, f"{field} holds what looks like a {kind}; name it without")
    return read_plain(title, field)


def _write_community(community: Community) -> pb.Community:
    return pb.Community(
        name=community_name(community.community_id),
        kind=pb.Community.Kind.ValueType(community.kind),
        title_zh=community.title_zh,
        title_en=community.title_en,
        member_count=community.member_count,
    )
