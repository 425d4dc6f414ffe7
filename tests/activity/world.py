"""A small catalogue with and without labels, reports of its scenes by account and by subject, and
a store to keep them, fed with identity's snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1.account_pb2 import Account
from carbonaccount.identity.v1.consent_pb2 import Consent
from carbonaccount.type.v1.cursor_pb2 import ShardCursor
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.activity import Activity, Named
from services.activity.domain.batch import Batch, Judged
from services.activity.domain.catalogue import Catalogue, read_catalogue
from services.activity.domain.keys import Keyring
from services.activity.followers.consent_follower import FEED, ConsentProjection
from services.activity.rpc.reports import ReportReader
from services.activity.storage.archive import Archive, Run
from services.activity.storage.journal import Journal, open_journal
from services.activity.usecases.commit_submissions import Submission, commit_submissions
from services.activity.usecases.withdraw_activity import Withdrawal, withdraw_activity
from services.activity.wiring import MIGRATIONS
from shared.feed.cursors import read_cursors
from shared.ids import account_name
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate
from shared.subject import subject_digest

MAY_S, NOW_US = 1_780_000_000, 1_790_000_000_000_000
KEYRING = Keyring(b"k" * 32)
SOURCE, PARTNER = "sources/any", "sources/partner"
SUBJECT_SECRET = b"s" * 32
WORDS = [f"word-{place}" for place in range(1, 65)]
FUEL = {"name": "fuel", "values": ["petrol", "diesel"], "required": True}
DIET = {"name": "diet", "values": WORDS, "required": False}


def scene_row(code: int, name: str, **more: Any) -> dict[str, Any]:
    """An entry of scenes.toml."""
    measure = {"name": "count", "unit": "COUNT", "min": 0, "max": 9, "required": True}
    return {
        "code": code, "name": name, "title_zh": "某", "title_en": "Any", "claim": "none",
        "category": "GREEN_TRAVEL", "consent_scope": "scopes/any", "measures": [measure], **more,
    }  # fmt: skip


def catalogue_of(*rows: dict[str, Any]) -> Catalogue:
    """These scenes, a system of the bank and a partner that may report them all."""
    scenes = {"scene": list(rows), "scope_codes": {"scopes/any": 1}}
    may = [row["name"] for row in rows]
    sources = [
        {"code": 1, "name": SOURCE, "title": "Any", "scenes": may, "names_riders_by": "account"},
        {"code": 2, "name": PARTNER, "title": "P", "scenes": may, "names_riders_by": "subject"},
    ]
    return read_catalogue(scenes, {"source": sources})


CATALOGUE = catalogue_of(
    scene_row(1, "scenes/car", label=FUEL),
    scene_row(2, "scenes/bus"),
    scene_row(3, "scenes/lunch", label=DIET),
    scene_row(4, "scenes/bill", label=DIET, claim="reference"),
    scene_row(5, "scenes/meter", claim="account_reference"),
)
READER = ReportReader(CATALOGUE, CATALOGUE.sources[SOURCE], KEYRING, SUBJECT_SECRET)
PARTNERS_READER = ReportReader(CATALOGUE, CATALOGUE.sources[PARTNER], KEYRING, SUBJECT_SECRET)


def report(scene: str, event: str = "e", account_id: int = 64, **more: Any) -> pb.ActivityReport:
    """A report that nothing is wrong with, unless `more` makes it so."""
    fields: dict[str, Any] = {
        "account": account_name(account_id),
        "scene": f"scenes/{scene}",
        "source_event_id": event,
        "occur_time": Timestamp(seconds=MAY_S),
        "measures": {"count": 1},
        "region_code": "440300",
        "evidence_grade": pb.EVIDENCE_GRADE_RECORDED,
    }
    return pb.ActivityReport(**{**fields, **more})


def by_subject(scene: str, event: str = "e", subject: str = "u", **more: Any) -> pb.ActivityReport:
    """The same as the partner reports it."""
    return report(scene, event, **{"account": "", "subject": subject_name(subject), **more})


def subject_name(subject: str) -> str:
    """The partner's name of its user."""
    return f"{PARTNER}/subjects/{subject}"


def digest(subject: str) -> bytes:
    """What is kept of it."""
    return subject_digest(SUBJECT_SECRET, subject_name(subject))


def read(*reports: pb.ActivityReport) -> Batch:
    """The reports as columns and refusals."""
    return READER.read(reports, NOW_US)


def read_partner(*reports: pb.ActivityReport) -> Batch:
    """The partner's reports as columns and refusals."""
    return PARTNERS_READER.read(reports, NOW_US)


def snapshot(
    account_id: int,
    *subjects: str | account_pb.BoundSubject,
    state: int = 1,
    consent: dict[str, Any] | None = None,
) -> account_pb.AccountSnapshot:
    """An account as identity sends it: a consent that covers 2020 on, as `consent` changes it,
    and the partner's users who are bound to it."""
    granted: dict[str, Any] = {
        "scope": "scopes/any",
        "state": Consent.STATE_GRANTED,
        "cover_from_time": Timestamp(seconds=1_577_836_800),
    }
    bound = [
        account_pb.BoundSubject(partner=PARTNER, subject_digest=digest(subject))
        if isinstance(subject, str)
        else subject
        for subject in subjects
    ]
    return account_pb.AccountSnapshot(
        account=account_name(account_id),
        shard=account_id & 63,
        state=Account.State.ValueType(state),
        consents=[Consent(**{**granted, **(consent or {})})],
        subjects=bound,
    )


class Store:
    """Activity's own tables, and what is done with them; consents of `accounts` are in force."""

    def __init__(self, database: Database, catalogue: Catalogue, accounts: Sequence[int]) -> None:
        self.database = database
        self.catalogue = catalogue
        self._position = 0
        self.sql(
            "insert into cursor (feed, shard, complete_time)"
            " select 'identity', shard, 'infinity' from generate_series(0, 63) as shard"
        )
        self.sql(
            "insert into account_consent (account_id, shard, state, cover_from, cover_until)"
            " select id, id & 63, 1, array['-infinity'::timestamptz], array['infinity'"
            "::timestamptz] from unnest(%s::int8[]) as id",
            list(accounts),
        )

    def follow(self, *snapshots: account_pb.AccountSnapshot) -> None:
        """Applies the snapshots, in one transaction, as the follower does."""
        self._position += 1
        moved = {s.shard: ShardCursor(shard=s.shard, position=self._position) for s in snapshots}
        projection = ConsentProjection(self.database, self.catalogue)
        with self.database.transaction() as connection:
            projection.begin(read_cursors(connection, FEED, moved))
        projection.apply(
            [account_pb.WatchAccountsResponse(snapshots=snapshots, cursors=moved.values())]
        )

    def record(self, *batches: Batch, staleness_max_ms: int = 10**9) -> list[Judged]:
        """What became of each batch; all in one transaction."""
        receipts = commit_submissions(
            [Submission(batch) for batch in batches],
            work=partial(open_journal, self.database),
            catalogue=self.catalogue,
            staleness_max_ms=staleness_max_ms,
        )
        judged = []
        for receipt in receipts:
            assert not isinstance(receipt, Exception), receipt
            judged.append(receipt.judged)
        return judged

    def activity(self, account_id: int, key: bytes) -> Activity | None:
        """The activity read back."""
        with self.database.transaction() as connection:
            activity = self.archive(connection).read_one(key)
        return activity if activity and activity.account_id == account_id else None

    def withdraw(self, account_id: int, key: bytes) -> Activity:
        """The activity, taken back by an operator."""
        return self.take_back(Withdrawal(Named(key, account_id), "operators/desk", "mistake", None))

    def take_back(self, withdrawal: Withdrawal) -> Activity:
        """The activity, taken back as the withdrawal says."""
        with self.database.transaction() as connection:
            return withdraw_activity(
                withdrawal,
                archive=self.archive(connection),
                journal=Journal(driver_of(connection)),
                catalogue=self.catalogue,
            )

    def runs(self, shard: int) -> list[Run]:
        """The feed of one shard from its beginning."""
        with self.database.transaction() as connection:
            return self.archive(connection).read_runs({shard: 0}, 100)

    def archive(self, connection: sa.Connection) -> Archive:
        """The reading side on a connection."""
        return Archive(connection, self.catalogue)

    def sql(self, query: str, *parameters: Any) -> list[Any]:
        """Rows of a query; none of a command."""
        with self.database.transaction() as connection:
            cursor = driver_of(connection).execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def open_store(
    url: str, *, catalogue: Catalogue = CATALOGUE, accounts: Sequence[int] = (64, 65, 66)
) -> Iterator[Store]:
    """A store on the newest schema."""
    migrate(url, MIGRATIONS)
    with closing(Database(url, look_ups=True)) as database:
        yield Store(database, catalogue, accounts)
