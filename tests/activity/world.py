"""A small catalogue with and without labels, reports of its scenes, and a store to keep them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from carbonaccount.activity.v1 import activity_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.activity import Activity
from services.activity.domain.batch import Batch, Judged
from services.activity.domain.catalogue import Catalogue, read_catalogue
from services.activity.domain.keys import Keyring
from services.activity.rpc.reports import ReportReader
from services.activity.storage.archive import Archive, Run
from services.activity.storage.journal import Journal, open_journal
from services.activity.usecases.commit_submissions import Submission, commit_submissions
from services.activity.usecases.withdraw_activity import Withdrawal, withdraw_activity
from services.activity.wiring import MIGRATIONS
from shared.ids import account_name
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate

MAY_S, NOW_US = 1_780_000_000, 1_790_000_000_000_000
KEYRING = Keyring(b"k" * 32)
SOURCE = "sources/any"
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
    """These scenes, and one source that may report them all."""
    scenes = {"scene": list(rows), "scope_codes": {"scopes/any": 1}}
    may = [row["name"] for row in rows]
    return read_catalogue(
        scenes, {"source": [{"code": 1, "name": SOURCE, "title": "Any", "scenes": may}]}
    )


CATALOGUE = catalogue_of(
    scene_row(1, "scenes/car", label=FUEL),
    scene_row(2, "scenes/bus"),
    scene_row(3, "scenes/lunch", label=DIET),
    scene_row(4, "scenes/bill", label=DIET, claim="reference"),
)
READER = ReportReader(CATALOGUE, CATALOGUE.sources[SOURCE], KEYRING)


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


def read(*reports: pb.ActivityReport) -> Batch:
    """The reports as columns and refusals."""
    return READER.read(reports, NOW_US)


class Store:
    """Activity's own tables, and what is done with them; consents of `accounts` are in force."""

    def __init__(self, database: Database, catalogue: Catalogue, accounts: Sequence[int]) -> None:
        self.database = database
        self._catalogue = catalogue
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

    def record(self, *batches: Batch) -> list[Judged]:
        """What became of each batch; all in one transaction."""
        receipts = commit_submissions(
            [Submission(batch) for batch in batches],
            work=partial(open_journal, self.database),
            catalogue=self._catalogue,
            staleness_max_ms=10**9,
        )
        judged = []
        for receipt in receipts:
            assert not isinstance(receipt, Exception), receipt
            judged.append(receipt.judged)
        return judged

    def activity(self, account_id: int, key: bytes) -> Activity | None:
        """The activity read back."""
        with self.database.transaction() as connection:
            return Archive(connection, self._catalogue, KEYRING).read_one(account_id, key)

    def withdraw(self, account_id: int, key: bytes) -> Activity:
        """The activity, taken back by an operator."""
        withdrawal = Withdrawal(account_id, key, "operators/desk", "mistake", None)
        with self.database.transaction() as connection:
            return withdraw_activity(
                withdrawal,
                archive=Archive(connection, self._catalogue, KEYRING),
                journal=Journal(driver_of(connection)),
            )

    def runs(self, shard: int) -> list[Run]:
        """The feed of one shard from its beginning."""
        with self.database.transaction() as connection:
            return Archive(connection, self._catalogue, KEYRING).read_runs({shard: 0}, 100)

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
