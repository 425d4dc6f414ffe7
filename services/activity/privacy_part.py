"""Activity's part of copies and erasures, put together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from services.activity.domain.catalogue import Catalogue
from services.activity.settings import Settings
from services.activity.storage.archive import Archive
from services.activity.storage.details import open_details
from services.activity.usecases.privacy import erase_account, export_account
from shared.privacy import Item
from shared.privacy_worker import PrivacyWorker
from shared.service import service_token
from shared.storage.engine import Database


def open_privacy_part(
    settings: Settings, database: Database, catalogue: Catalogue
) -> PrivacyWorker:
    """Does what identity asks of activity; to be run beside the server, needs a running loop."""

    def export(account_id: int) -> Iterator[Item]:
        with database.transaction() as connection:
            yield from export_account(account_id, archive=Archive(connection, catalogue))

    return PrivacyWorker(
        settings.identity_address,
        token=service_token(settings, "activity"),
        export=export,
        erase=partial(erase_account, work=partial(open_details, database)),
    )
