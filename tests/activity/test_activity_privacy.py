"""What a person gets of activity, and what of it an erasure destroys and keeps."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.activity import Named
from services.activity.domain.batch import Outcome
from services.activity.domain.keys import activity_id
from services.activity.storage.details import open_details
from services.activity.storage.journal import open_journal
from services.activity.usecases import privacy
from services.activity.usecases.privacy import erase_account, export_account
from services.activity.usecases.withdraw_activity import Withdrawal
from shared.ids import account_name
from shared.privacy import Erased, Table, pieces_of
from shared.refusal import Refusal
from tests.activity.world import (
    MAY_S,
    PARTNER,
    Store,
    by_subject,
    open_store,
    read,
    read_partner,
    report,
    snapshot,
)

A, B = 64, 65


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as store:
        yield store


def export(store: Store, account_id: int = A) -> list[dict[str, Any]]:
    """The records of the one table."""
    with store.database.transaction() as connection:
        (table,) = export_account(account_id, archive=store.archive(connection))
        assert isinstance(table, Table)
        assert table.name == "activities"
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def erase(store: Store, account_id: int = A) -> Erased:
    return erase_account(account_id, work=partial(open_details, store.database))


def reason(call: Any) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value.reason


def rides(store: Store, count: int, account_id: int = A) -> list[bytes]:
    """So many rides, a second apart, and their keys."""
    (judged,) = store.record(
        read(
            *(
                report("bus", f"{account_id}-{n}", account_id, occur_time=Timestamp(seconds=n))
                for n in range(MAY_S, MAY_S + count)
            )
        )
    )
    assert set(judged.outcomes.tolist()) <= {Outcome.RECORDED}
    return [key.tobytes() for key in judged.keys]


def test_a_copy_has_every_activity_with_what_the_contract_calls_its_fields(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    (judged,) = store.record(
        read_partner(by_subject("car", labels={"fuel": "diesel"}, measures={"count": 7}))
    )
    (record,) = export(store)
    assert record.pop("record_time") <= datetime.now(UTC)
    assert record == {
        "name": f"{account_name(A)}/activities/{activity_id(judged.keys[0].tobytes())}",
        "scene": "scenes/car",
        "source": PARTNER,
        "measures": {"count": 7},
        "labels": {"fuel": "diesel"},
        "occur_time": datetime.fromtimestamp(MAY_S, UTC),
        "region_code": "440300",
        "evidence_grade": "EVIDENCE_GRADE_RECORDED",
        "state": "STATE_RECORDED",
        "position": 1,
        "withdraw_time": None,
        "withdrawn_by": "",
        "withdraw_cause": "",
    }


def test_a_copy_says_what_was_withdrawn_when_by_whom_and_why(store: Store) -> None:
    kept, gone = rides(store, 2)
    store.take_back(Withdrawal(Named(gone, A), "customer", "it was not me", None))
    newest, older = export(store)
    assert newest["name"].endswith(activity_id(gone))
    assert newest["state"] == "STATE_WITHDRAWN"
    assert (newest["withdrawn_by"], newest["withdraw_cause"]) == ("customer", "it was not me")
    assert newest["record_time"] <= newest["withdraw_time"] <= datetime.now(UTC)
    assert older["name"].endswith(activity_id(kept))
    assert older["state"] == "STATE_RECORDED"


def test_a_copy_is_read_page_by_page_and_misses_and_doubles_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rides(store, 21)
    rides(store, 3, B)
    monkeypatch.setattr(privacy, "PAGE", 4)
    names = [record["name"] for record in export(store)]
    assert len(set(names)) == len(names) == 21
    assert all(name.startswith(account_name(A)) for name in names)
    times = [record["occur_time"] for record in export(store)]
    assert times == sorted(times, reverse=True)


def test_a_copy_is_written_as_json_and_csv(store: Store) -> None:
    rides(store, 2)
    counts: dict[str, int] = {}
    with store.database.transaction() as connection:
        items = export_account(A, archive=store.archive(connection))
        files = {piece.file_name: piece.content for piece in pieces_of(items, counts)}
    assert counts == {"activities": 2}
    assert [type(r["measures"]["count"]) for r in json.loads(files["activities.json"])] == [int] * 2
    assert files["activities.csv"].count(b"\r\n") == 3


def test_an_account_without_activities_has_an_empty_copy(store: Store) -> None:
    rides(store, 1, B)
    assert export(store) == []


def test_an_erasure_destroys_details_and_causes_and_keeps_what_the_ledger_rests_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "ERASED_TOGETHER", 4)
    keys, others = rides(store, 10), rides(store, 2, B)
    store.take_back(Withdrawal(Named(keys[3], A), "customer", "planted words", None))
    store.take_back(Withdrawal(Named(others[0], B), "customer", "other words", None))
    counted = (
        "select (select count(*) from activity), (select count(*) from event_key),"
        " (select count(*) from withdrawal)"
    )
    before = store.sql(counted)
    store.follow(snapshot(A, state=4))
    erased = erase(store)
    assert erased.counts == {"activity-details": 10, "withdrawal-causes": 1}
    assert len(erased.kept) == 3
    assert store.sql(counted) == before
    assert [store.activity(A, key) for key in keys] == [None] * 10
    assert export(store) == []
    causes = store.sql("select cause from withdrawal order by cause")
    assert causes == [("",), ("other words",)]
    assert len(export(store, B)) == 2


def test_erasing_again_finds_nothing(store: Store) -> None:
    rides(store, 3)
    store.follow(snapshot(A, state=4))
    assert erase(store).counts["activity-details"] == 3
    assert erase(store).counts == {"activity-details": 0, "withdrawal-causes": 0}


@pytest.mark.parametrize(("state", "word"), [(1, "open"), (2, "suspended"), (3, "closed")])
def test_what_identity_has_not_erased_is_not_erased_here(
    store: Store, state: int, word: str
) -> None:
    rides(store, 1)
    store.follow(snapshot(A, state=state))
    with pytest.raises(Refusal) as caught:
        erase(store)
    assert (caught.value.reason, caught.value.metadata["state"]) == ("STATE_CONFLICT", word)
    assert len(export(store)) == 1


def test_an_account_that_is_not_known_here_is_not_erased(store: Store) -> None:
    assert reason(lambda: erase(store, 1 << 40)) == "STATE_CONFLICT"


def test_after_an_erasure_an_act_is_neither_shown_nor_withdrawn_nor_credited_again(
    store: Store,
) -> None:
    store.follow(snapshot(A, "u"))
    event = by_subject("bill", claim="bill-7")
    (judged,) = store.record(read_partner(event))
    key, partner = judged.keys[0].tobytes(), store.catalogue.sources[PARTNER]
    store.follow(snapshot(A, state=4), snapshot(B, "u"))
    erase(store)
    assert store.activity(A, key) is None
    by_source = Withdrawal(Named(key, source=PARTNER), PARTNER, "mistake", partner)
    assert reason(lambda: store.take_back(by_source)) == "RESOURCE_NOT_FOUND"
    assert store.sql("select count(*) from withdrawal") == [(0,)]
    (again,) = store.record(
        read_partner(event, by_subject("bill", "other", claim="bill-7")),
    )
    assert again.outcomes.tolist() == [Outcome.REPEATED, Outcome.REFUSED]
    assert again.refusals[1].reason == "ACT_ALREADY_CLAIMED"


def test_a_recording_under_way_is_waited_for_and_what_it_wrote_is_erased_too(
    store: Store,
) -> None:
    """It judged the account to be open, and commits after the erasure is known."""
    batch = read(report("bus", "under-way"))
    done: list[float] = []
    with open_journal(store.database) as journal:
        assert not journal.judge(batch.columns)
        store.follow(snapshot(A, state=4))
        eraser = threading.Thread(
            target=lambda: done.append(erase(store).counts["activity-details"])
        )
        eraser.start()
        time.sleep(0.3)
        assert not done, "the eraser waits"
        journal.write_details(batch.columns, batch.columns.contents)
    eraser.join(10)
    assert done == [1]
    assert store.sql("select count(*) from activity_detail") == [(0,)]


def test_a_recording_that_does_not_end_is_waited_for_a_second(store: Store) -> None:
    rides(store, 1)
    store.follow(snapshot(A, state=4))
    with open_journal(store.database) as journal:
        journal.projection_age_ms()
        assert reason(lambda: erase(store)) == "RETRY_LATER"
    assert erase(store).counts["activity-details"] == 1
