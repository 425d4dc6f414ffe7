"""What a source calls an event is kept as a digest, also of rows that were written before."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.activity.domain.activity import Activity, Named
from services.activity.domain.batch import Outcome
from services.activity.domain.catalogue import Catalogue, Source
from services.activity.rpc.messages import write_activity
from services.activity.storage.event_ids import digest_event_ids
from services.activity.storage.tables import COLUMN_WIDTHS
from services.activity.usecases.find_activity import find_activity
from services.activity.usecases.withdraw_activity import Withdrawal
from services.activity.wiring import MIGRATIONS
from shared.ids import account_name
from shared.refusal import Refusal
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate
from tests.activity.world import (
    KEYRING,
    MAY_S,
    PARTNER,
    SOURCE,
    Store,
    by_subject,
    open_store,
    read,
    read_partner,
    report,
    snapshot,
)

PLANTED = "planted-event-7f3a"
OLD_COLUMNS = [name for name in COLUMN_WIDTHS if name != "label_1"]
OLD_RUN = f"""
insert into activity_run (shard, position, batch, record_time, count, {", ".join(OLD_COLUMNS)})
values (%s, 1, %s, '2026-05-29', %s{", %s" * len(OLD_COLUMNS)})
"""


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as store:
        yield store


def find(store: Store, event: str, source: str = SOURCE, caller: Source | None = None) -> Activity:
    with store.database.transaction() as connection:
        return find_activity(
            source,
            event,
            caller=caller,
            catalogue=store.catalogue,
            keyring=KEYRING,
            archive=store.archive(connection),
        )


def texts_at_rest(store: Store) -> str:
    """Every row of every table of activity, as text."""
    tables = store.sql(
        "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    rows = [store.sql(f"select t::text from {table} t") for (table,) in tables]
    assert len(rows) > 10
    return str(rows)


def test_no_table_holds_what_a_source_calls_an_event_an_act_or_its_user(store: Store) -> None:
    store.follow(snapshot(64, "planted-rider"))
    (judged,) = store.record(read(report("bill", PLANTED, claim="planted-bill")))
    (partners,) = store.record(
        read_partner(by_subject("meter", PLANTED, "planted-rider", claim="planted-meter"))
    )
    assert judged.outcomes.tolist() == partners.outcomes.tolist() == [Outcome.RECORDED]
    assert "planted" not in texts_at_rest(store)
    assert KEYRING.event_key(1, PLANTED).hex() in texts_at_rest(store).replace("-", "")


def test_an_activity_is_found_by_what_its_source_calls_it(store: Store) -> None:
    store.follow(snapshot(64, "u"))
    store.record(read(report("bus", "e")), read_partner(by_subject("lunch", "e")))
    banks, partners = find(store, "e"), find(store, "e", PARTNER)
    assert (banks.scene, banks.account_id) == ("scenes/bus", 64)
    assert (partners.scene, partners.account_id) == ("scenes/lunch", 64)
    own = store.catalogue.sources[PARTNER]
    assert find(store, "e", PARTNER, own) == partners


def test_to_its_source_an_activity_is_shown_without_account_and_place(store: Store) -> None:
    store.follow(snapshot(64, "u"))
    store.record(read_partner(by_subject("lunch", "e", labels={"diet": "word-7"})))
    found = find(store, "e", PARTNER)
    shown = write_activity(found, below_source=True)
    assert shown.name.startswith(f"{PARTNER}/activities/")
    assert shown.position == 0
    assert "accounts/" not in str(shown)
    whole = write_activity(found)
    assert whole.name.startswith(f"{account_name(64)}/activities/")
    assert (whole.position, dict(whole.labels)) == (1, {"diet": "word-7"})


def test_what_is_not_there_or_not_the_callers_is_not_found(store: Store) -> None:
    store.record(read(report("bus", PLANTED)))
    partner = store.catalogue.sources[PARTNER]
    for event, source, caller, reason in (
        ("unheard-of", SOURCE, None, "RESOURCE_NOT_FOUND"),
        (PLANTED, PARTNER, None, "RESOURCE_NOT_FOUND"),
        (PLANTED, PARTNER, partner, "RESOURCE_NOT_FOUND"),
        (PLANTED, "sources/nobody", None, "RESOURCE_NOT_FOUND"),
        (PLANTED, SOURCE, partner, "CALLER_NOT_ALLOWED"),
        ("unheard-of", SOURCE, partner, "CALLER_NOT_ALLOWED"),
    ):
        with pytest.raises(Refusal) as caught:
            find(store, event, source, caller)
        assert caught.value.reason == reason
        assert event not in caught.value.message


def write_as_before(database: Database, shard: int, events: list[str]) -> list[bytes]:
    """Bus rides of one account as the first migration made their rows, of source 1."""
    account_id, count = 64 + shard, len(events)
    values = {
        "kind": 1, "account_id": account_id, "scene": 2, "source": 1, "region": 0,
        "evidence_grade": 1, "civil_day": 20_602, "measure_1": 3, "measure_2": 0, "target": 0,
    }  # fmt: skip
    columns = [values[n].to_bytes(COLUMN_WIDTHS[n], signed=True) * count for n in OLD_COLUMNS]
    keys = [KEYRING.event_key(1, event) for event in events]
    with database.transaction() as connection:
        driver = driver_of(connection)
        batch = driver.execute("select nextval('batch_number')").fetchone()
        assert batch is not None
        driver.execute(OLD_RUN.encode(), (shard, batch[0], count, *columns))
        driver.execute("update feed_head set position = %s where shard = %s", (count, shard))
        for place, (event, key) in enumerate(zip(events, keys, strict=True)):
            ref = batch[0] << 15 | place
            driver.execute(
                "insert into event_key (key, content, ref, shard)"
                " values (encode(%s, 'hex')::uuid, 0, %s, %s)",
                (key, ref, key[0] & 63),
            )
            driver.execute(
                "insert into activity_detail (account_id, occur_time, ref, civil_day, shard,"
                " source_event_id) values (%s, to_timestamp(%s), %s, 20602, %s, %s)",
                (account_id, MAY_S + place, ref, shard, event),
            )
    return keys


@pytest.fixture
def old(database_url: str, tmp_path: Path) -> Iterator[tuple[Store, dict[int, list[bytes]]]]:
    """A store with rides of three accounts from before, and their keys; nothing digested yet."""
    for step in ("0001_spine.py", "0002_labels.py"):
        shutil.copy(MIGRATIONS / step, tmp_path)
    migrate(database_url, tmp_path)
    with closing(Database(database_url)) as database:
        keys = {
            shard: write_as_before(database, shard, [f"{PLANTED}-{shard}-{n}" for n in range(25)])
            for shard in (0, 1, 63)
        }
        with database.transaction() as connection:
            driver_of(connection).execute(
                "insert into withdrawal (key, ref, withdraw_time, shard, actor, cause) values"
                " (gen_random_uuid(), 1, now(), 0, 'Zhang San', 'x'),"
                " (gen_random_uuid(), 1, now(), 0, 'sources/any', 'y')"
            )
    with open_store(database_url) as store:
        yield store, keys


def left(store: Store) -> int:
    """Texts that are not digested."""
    query = "select count(*) from activity_detail where source_event_id is not null"
    ((count,),) = store.sql(query)
    return int(count)


def check(store: Store, keys: dict[int, list[bytes]]) -> None:
    """Every ride of before is read, found, listed and known as it was."""
    assert left(store) == 0
    assert PLANTED not in texts_at_rest(store)
    for shard, shard_keys in keys.items():
        for number, key in enumerate(shard_keys):
            activity = store.activity(64 + shard, key)
            assert activity is not None
            assert activity == find(store, f"{PLANTED}-{shard}-{number}")
            assert activity.measures == {"count": 3}
    repeated = read(*(report("bus", f"{PLANTED}-0-{n}") for n in range(25)))
    (judged,) = store.record(repeated)
    assert {refusal.reason for refusal in judged.refusals.values()} == {"RESOURCE_EXISTS"}


def test_rows_of_before_become_digests_some_at_a_time(
    old: tuple[Store, dict[int, list[bytes]]],
) -> None:
    store, keys = old
    assert left(store) == 75
    assert digest_event_ids(store.database, KEYRING, rows_max=10) == 75
    check(store, keys)
    assert digest_event_ids(store.database, KEYRING) == 0
    query = "select count(*) from event_key where account_shard is null"
    assert store.sql(query) == [(0,)]


def test_a_run_that_was_cut_short_is_resumed(old: tuple[Store, dict[int, list[bytes]]]) -> None:
    store, keys = old
    store.sql(
        "create function fail() returns trigger language plpgsql as"
        " $$ begin raise exception 'power cut'; end $$"
    )
    store.sql(
        "create trigger fail before update on activity_detail for each row"
        " when (old.account_id = 65 and old.ref & 32767 = 14) execute function fail()"
    )
    with pytest.raises(Exception, match="power cut"):
        digest_event_ids(store.database, KEYRING, rows_max=10)
    assert 0 < left(store) < 75
    store.sql("drop trigger fail on activity_detail")
    done = 75 - left(store)
    assert digest_event_ids(store.database, KEYRING) == 75 - done
    check(store, keys)


def test_two_that_start_at_once_share_the_work(
    old: tuple[Store, dict[int, list[bytes]]],
) -> None:
    store, keys = old
    counts: list[int] = []
    workers = [
        threading.Thread(
            target=lambda: counts.append(digest_event_ids(store.database, KEYRING, rows_max=3))
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(counts) == 3
    assert sum(counts) == 75
    check(store, keys)


def test_a_ride_of_before_is_taken_back_by_its_source(
    old: tuple[Store, dict[int, list[bytes]]],
) -> None:
    store, keys = old
    digest_event_ids(store.database, KEYRING)
    catalogue: Catalogue = store.catalogue
    named = Named(keys[63][7], source=SOURCE)
    taken = store.take_back(Withdrawal(named, SOURCE, "mistake", catalogue.sources[SOURCE]))
    assert taken.withdrawn
    assert taken.account_id == 127
    assert find(store, f"{PLANTED}-63-7").withdrawn


def test_who_withdrew_before_is_not_named_when_it_was_a_customer(
    old: tuple[Store, dict[int, list[bytes]]],
) -> None:
    store, _ = old
    rows = store.sql("select actor from withdrawal order by cause")
    assert rows == [("customer",), ("sources/any",)]


def test_the_digest_of_an_event_is_what_it_always_was() -> None:
    assert KEYRING.event_key(3, "ride-1").hex() == "e7690b4086c3b56c44307d5f99099667"
    keys = KEYRING.event_keys(3)
    assert [keys("ride-1"), keys("ride-2")] == [KEYRING.event_key(3, f"ride-{n}") for n in (1, 2)]
    assert KEYRING.event_key(4, "ride-1") != KEYRING.event_key(3, "ride-1")
