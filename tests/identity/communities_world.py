"""Operators who make communities, and customers who join them."""

from __future__ import annotations

from carbonaccount.identity.v1 import community_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from identity_house import Customer, House, request_id

ESTATE, COMPANY, SCHOOL = (
    pb.Community.KIND_ESTATE,
    pb.Community.KIND_COMPANY,
    pb.Community.KIND_SCHOOL,
)


def create(
    house: House,
    kind: int = ESTATE,
    title_zh: str = "梅林一村",
    title_en: str = "Meilin Yicun",
    request: str = "",
) -> pb.CreateCommunityResponse:
    return house.communities.CreateCommunity(
        pb.CreateCommunityRequest(
            kind=kind,  # type: ignore[arg-type]  # numbers that the contract does not know too
            title_zh=title_zh,
            title_en=title_en,
            request_id=request or request_id(),
        ),
        **house.operator,
    )


def resident(house: House) -> Customer:
    """A customer with an account and no consent."""
    person = house.customer()
    person.open()
    return person


def join(person: Customer, code: str, request: str = "") -> pb.Community:
    return person.house.communities.JoinCommunity(
        pb.JoinCommunityRequest(
            parent=person.account, code=code, request_id=request or request_id()
        ),
        **person.call,
    ).community


def leave(person: Customer, community: str, request: str = "") -> Timestamp:
    return person.house.communities.LeaveCommunity(
        pb.LeaveCommunityRequest(
            parent=person.account, community=community, request_id=request or request_id()
        ),
        **person.call,
    ).leave_time


def joined(person: Customer) -> list[pb.Community]:
    """The communities that the customer belongs to."""
    request = pb.ListCommunitiesRequest(parent=person.account)
    return list(person.house.communities.ListCommunities(request, **person.call).communities)


def read(house: House, name: str) -> pb.Community:
    request = pb.GetCommunityRequest(community=name)
    return house.communities.GetCommunity(request, **house.service).community
