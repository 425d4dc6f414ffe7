"""Calculation's part of copies and erasures, put together."""

from __future__ import annotations

from collections.abc import Iterator

from services.calculation.settings import Settings
from services.calculation.storage.privacy import Past
from services.calculation.usecases.privacy import erase_account, export_account
from shared.privacy import Item
from shared.privacy_worker import PrivacyWorker
from shared.service import service_token
from shared.storage.engine import Database


def open_privacy_part(settings: Settings, database: Database) -> PrivacyWorker:
    """Does what identity asks of calculation; to be run beside the server, needs a running loop."""

    def export(account_id: int) -> Iterator[Item]:
        with database.transaction() as connection:
            yield from export_account(account_id, past=Past(connection))

    return PrivacyWorker(
        settings.identity_address,
        token=service_token(settings, "calculation"),
        export=export,
        erase=erase_account,
    )
