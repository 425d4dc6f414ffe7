"""Activity's part of copies and erasures, put together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.activity.domain.catalogue import Catalogue
from services.activity.settings import Settings
from services.activity.storage.archive import Archive
from services.activity.storage.details import Details
from services.activity.usecases.privacy import erase_account, export_account
from shared.privacy import Erased, Item
from shared.privacy_worker import PrivacyWorker
from shared.service import service_token
from shared.storage.engine import Database, driver_of


def open_privacy_part(
    settings: Settings, database: Database, catalogue: Catalogue
) -> PrivacyWorker:
    """Does what identity asks of activity; to be run beside the server, needs a running loop."""

    def export(account_id: int) -> Iterator[Item]:
        with database.transaction() as connection:
            yield from export_account(account_id, archive=Archive(connection, catalogue))

    @contextmanager
    def work() -> Iterator[Details]:
        with database.transaction() as connection:
            yield Details(driver_of(connection))

    def erase(account_id: int) -> Erased:
        return erase_account(account_id, work=work)

    return PrivacyWorker(
        settings.identity_address,
        token=service_token(settings, "activity"),
        export=export,
        erase=erase,
    )
