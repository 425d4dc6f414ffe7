"""One word of an activity in the feed, the view, an account's list, and in databases of before."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.batch import Outcome
from services.activity.rpc.messages import write_activity, write_run
from services.activity.rpc.reports import ReportReader
from services.activity.storage.event_ids import digest_event_ids
from services.activity.storage.tables import COLUMN_WIDTHS, activity_run
from services.activity.wiring import MIGRATIONS, load_catalogue
from shared.ids import account_name
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate
from tests.activity.world import (
    KEYRING,
    MAY_S,
    NOW_US,
    SUBJECT_SECRET,
    open_store,
    read,
    report,
)

DIESEL = {"fuel": "diesel"}


def test_an_activity_keeps_its_word_and_shows_it(database_url: str) -> None:
    with open_store(database_url) as store:
        (judged,) = store.record(read(report("car", "a", labels=DIESEL), report("bus", "b")))
        assert judged.outcomes.tolist() == [Outcome.RECORDED, Outcome.RECORDED]
        car, bus = (store.activity(64, key.tobytes()) for key in judged.keys)
        assert car is not None
        assert bus is not None
        assert (car.labels, car.measures) == (DIESEL, {"count": 1})
        assert (bus.labels, bus.measures) == ({}, {"count": 1})
        assert dict(write_activity(car).labels) == DIESEL
        assert not write_activity(bus).labels


def test_the_packed_column_is_there_only_where_a_run_has_a_word(database_url: str) -> None:
    with open_store(database_url) as store:
        store.record(
            read(
                report("car", "a", 64, labels={"fuel": "petrol"}),
                report("bus", "b", 64),
                report("car", "c", 64, labels=DIESEL),
                report("bus", "d", 65),
                report("lunch", "e", 65),
                report("lunch", "f", 66, labels={"diet": "word-64"}),
            )
        )
        columns = {shard: write_run(store.runs(shard)[0]).label_1 for shard in (0, 1, 2)}
        assert columns == {0: b"\0\1\0\0\0\2", 1: b"", 2: b"\0\x40"}
        kept = store.sql("select shard, octet_length(label_1) from activity_run order by shard")
        assert kept == [(0, 6), (1, 0), (2, 2)]
        seen = store.sql("select shard, label_1 from activity order by shard, position")
        assert seen == [(0, 1), (0, 0), (0, 2), (1, 0), (1, 0), (2, 64)]


def test_a_withdrawal_says_the_word_of_what_it_takes_back(database_url: str) -> None:
    with open_store(database_url) as store:
        (judged,) = store.record(read(report("car", labels=DIESEL)))
        assert store.withdraw(64, judged.keys[0].tobytes()).labels == DIESEL
        recorded, withdrawn = store.runs(0)
        assert recorded.columns["label_1"] == withdrawn.columns["label_1"] == b"\0\2"


def test_a_repeat_with_the_same_word_is_known_and_with_another_is_refused(
    database_url: str,
) -> None:
    with open_store(database_url) as store:
        store.record(read(report("lunch", "a", labels={"diet": "word-1"}), report("lunch", "b")))
        (judged,) = store.record(
            read(
                report("lunch", "a", labels={"diet": "word-1"}),
                report("lunch", "a", labels={"diet": "word-2"}),
                report("lunch", "a"),
                report("lunch", "b"),
                report("lunch", "b", labels={"diet": "word-1"}),
            )
        )
        repeated, refused = Outcome.REPEATED, Outcome.REFUSED
        assert judged.outcomes.tolist() == [repeated, refused, refused, repeated, refused]
        assert {refusal.reason for refusal in judged.refusals.values()} == {"RESOURCE_EXISTS"}


def test_two_words_that_meet_in_one_transaction_are_one_fact_and_one_refusal(
    database_url: str,
) -> None:
    with open_store(database_url) as store:
        first, second = store.record(
            read(report("car", labels={"fuel": "petrol"})), read(report("car", labels=DIESEL))
        )
        assert first.outcomes.tolist() == [Outcome.RECORDED]
        assert second.refusals[0].reason == "RESOURCE_EXISTS"
        assert store.sql("select label_1 from activity") == [(1,)]


def test_a_word_is_stored_apart_and_as_the_code_expects(database_url: str) -> None:
    with open_store(database_url) as store:
        rows = store.sql(
            "select attname, attstorage = 'e', attnotnull from pg_attribute"
            " where attrelid = 'activity_run'::regclass and attnum > 0 and not attisdropped"
        )
        packed = {name for name, external, _ in rows if external}
        assert packed == set(COLUMN_WIDTHS)
        assert {name for name, _, _ in rows} == set(activity_run.columns.keys())
        assert all(filled for _, _, filled in rows)


OLD_COLUMNS = [name for name in COLUMN_WIDTHS if name != "label_1"]
OLD_RUN = f"""
insert into activity_run (shard, position, batch, record_time, count, {", ".join(OLD_COLUMNS)})
values (0, %s, %s, '2026-05-29', 1{", %s" * len(OLD_COLUMNS)})
"""


def write_as_before(database: Database, event: str, position: int) -> bytes:
    """A metro ride of account 64 as code without labels wrote it, with the digest of then."""
    key = KEYRING.event_key(3, event)
    values = {
        "kind": 1, "account_id": 64, "scene": 1, "source": 3, "region": 440300,
        "evidence_grade": 1, "civil_day": 20_602, "measure_1": 3000, "measure_2": 600, "target": 0,
    }  # fmt: skip
    assert list(values) == OLD_COLUMNS
    columns = [value.to_bytes(COLUMN_WIDTHS[name], signed=True) for name, value in values.items()]
    ref, content = position << 15, int.from_bytes(bytes.fromhex("4a9931767a526c37"), signed=True)
    with database.transaction() as connection:
        driver = driver_of(connection)
        driver.execute(OLD_RUN.encode(), (position, position, *columns))
        driver.execute("update feed_head set position = %s where shard = 0", (position,))
        driver.execute("select nextval('batch_number')")
        driver.execute(
            "insert into event_key (key, content, ref, shard)"
            " values (encode(%s, 'hex')::uuid, %s, %s, %s)",
            (key, content, ref, key[0] & 63),
        )
        driver.execute(
            "insert into activity_detail values (64, to_timestamp(%s), %s, 20602, 0, %s)",
            (MAY_S, ref, event),
        )
    return key


def test_what_was_recorded_before_there_were_labels_has_none_and_is_still_known(
    database_url: str, tmp_path: Path
) -> None:
    shutil.copy(MIGRATIONS / "0001_spine.py", tmp_path)
    migrate(database_url, tmp_path)
    with closing(Database(database_url)) as database:
        old = write_as_before(database, "old", 1)
        shutil.copy(MIGRATIONS / "0002_labels.py", tmp_path)
        migrate(database_url, tmp_path)
        beside = write_as_before(database, "beside", 2)  # old code runs on for a while
        with database.transaction() as connection:
            file = "select pg_relation_filenode('activity_run')"
            before = driver_of(connection).execute(file).fetchall()
    catalogue = load_catalogue()
    with open_store(database_url, catalogue=catalogue) as store:
        assert store.sql(file) == before, "no row was written anew"
        assert digest_event_ids(store.database, KEYRING) == 2
        for key in (old, beside):
            activity = store.activity(64, key)
            assert activity is not None
            assert activity.labels == {}
            assert activity.measures == {"distance_metre": 3000, "duration_second": 600}
        assert store.sql("select octet_length(label_1) from activity_run") == [(0,), (0,)]
        assert store.sql("select position, measure_1, target, label_1 from activity") == [
            (1, 3000, 0, 0), (2, 3000, 0, 0),
        ]  # fmt: skip
        metro = replace(catalogue.sources["sources/metro-demo"], names_riders_by="account")
        reader = ReportReader(catalogue, metro, KEYRING, SUBJECT_SECRET)
        again = report(
            "metro-ride", "old",
            account=account_name(64),
            occur_time=Timestamp(seconds=MAY_S),
            measures={"distance_metre": 3000, "duration_second": 600},
        )  # fmt: skip
        (judged,) = store.record(reader.read([again], NOW_US))
        assert judged.outcomes.tolist() == [Outcome.REPEATED]
        assert store.withdraw(64, old).withdrawn
        assert store.runs(0)[2].columns["label_1"] == b""
