"""Copies and erasures, put together from what every room of identity holds of an account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import sqlalchemy as sa

from services.identity.followers.privacy_worker import ArchivePacker
from services.identity.rpc.desk import Desk
from services.identity.rpc.privacy_servicer import PrivacyServicer
from services.identity.rpc.receipts import ReceiptBook, read_history
from services.identity.storage.bindings import erase_bindings, export_bindings
from services.identity.storage.communities import erase_communities, export_communities
from services.identity.storage.household_export import export_households
from services.identity.storage.own_data import OwnData, records_of
from services.identity.storage.sessions import delete_sessions
from services.identity.storage.vault import Vault
from shared.feed.watch import Signal
from shared.ids import from_us
from shared.privacy import File, Item
from shared.rpc.jwks import json_web_key_set
from shared.rpc.keyring import Signer, published


def open_privacy_room(
    desk: Desk, *, vault: Vault, keys_dir: Path
) -> tuple[PrivacyServicer, ArchivePacker]:
    """The servicer, and the packer to run beside it; needs a running loop."""
    signer = Signer(keys_dir)
    receipts = ReceiptBook(signer, desk.secret)

    def signed_receipts(connection: sa.Connection, account_id: int) -> Iterable[Item]:
        history = read_history(desk.register(connection), account_id)
        for receipt in reversed(receipts.signed(history, from_us(desk.clock()))):
            name = f"receipt-{receipt.number:05}-{receipt.event.name.lower()}.jws"
            yield File(name, receipt.jws.encode())

    tasks = Signal()
    own_data = OwnData(
        vault=vault,
        register=desk.register,
        scopes=desk.by_code,
        rooms=[
            signed_receipts,
            records_of("bindings", export_bindings),
            export_households,
            records_of("communities", export_communities),
        ],
    )
    packer = ArchivePacker(
        desk.database,
        vault=vault,
        own_data=own_data,
        signer=signer,
        published_keys=lambda: json_web_key_set([k.jwk for k in published(keys_dir)]).encode(),
        clock=desk.clock,
        tasks=tasks,
    )
    erasers = [erase_bindings, erase_communities, _erase_sessions]
    return PrivacyServicer(desk, vault=vault, rooms=erasers, tasks=tasks), packer


def _erase_sessions(connection: sa.Connection, account_id: int) -> Mapping[str, int]:
    return {"session": delete_sessions(connection, account_id)}
