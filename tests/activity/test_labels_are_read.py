"""One word of a report: which is taken, which is refused and how, and what its digest says."""

from __future__ import annotations

from typing import Any

import pytest

from services.activity.domain.catalogue import CatalogueInvalid
from services.activity.wiring import load_catalogue
from shared.refusal import Refusal
from tests.activity.world import FUEL, KEYRING, WORDS, catalogue_of, read, report, scene_row

# As they were before there were labels; facts are known by them for ever.
BEFORE_LABELS = [
    ((64, 1, 1_780_000_000_000_000, 440300, 1, 3000, 600), "", "4a9931767a526c37"),
    ((64, 5, 1_780_000_000_000_000, 440300, 1, 1, 0), "2026-05", "3d1523232fb6f84d"),
]


def codes(*reports: Any) -> list[int]:
    batch = read(*reports)
    assert not batch.refusals
    return [int(code) for code in batch.columns.label_1]


def refusal(scene: str, labels: dict[str, str]) -> Refusal:
    batch = read(report(scene, labels=labels))
    assert not len(batch.columns)
    return batch.refusals[0]


def test_a_word_becomes_its_place_in_the_list_from_one() -> None:
    assert codes(
        report("car", labels={"fuel": "petrol"}),
        report("car", labels={"fuel": "diesel"}),
        report("lunch", labels={"diet": WORDS[0]}),
        report("lunch", labels={"diet": WORDS[63]}),
    ) == [1, 2, 1, 64]


def test_nothing_is_given_where_nothing_needs_to_be() -> None:
    assert codes(report("bus"), report("lunch")) == [0, 0]


@pytest.mark.parametrize(
    ("scene", "labels", "reason", "field", "message"),
    [
        ("car", {}, "FIELD_INVALID", "labels",
         "labels lacks fuel; scenes/car needs it, as one of petrol, diesel"),
        ("car", {"fuel": "coal"}, "FIELD_INVALID", "labels.fuel",
         "fuel is 'coal'; scenes/car takes petrol, diesel"),
        ("car", {"fuel": ""}, "FIELD_INVALID", "labels.fuel",
         "fuel is ''; scenes/car takes petrol, diesel"),
        ("car", {"fuel": "Petrol"}, "FIELD_INVALID", "labels.fuel",
         "fuel is 'Petrol'; scenes/car takes petrol, diesel"),
        ("car", {"mode": "petrol"}, "FIELD_INVALID", "labels",
         "labels has 'mode'; scenes/car takes fuel"),
        ("bus", {"fuel": "petrol"}, "FIELD_INVALID", "labels",
         "labels has 'fuel'; scenes/bus takes none"),
        ("lunch", {"diet": "word-65"}, "FIELD_INVALID", "labels.diet",
         f"diet is 'word-65'; scenes/lunch takes {', '.join(WORDS)}"),
        ("car", {"fuel": "petrol", "mode": "x"}, "LIMIT_REACHED", "labels",
         "labels has 2 items and may have 1; report the scene's own"),
    ],
)  # fmt: skip
def test_another_word_is_refused_with_the_words_that_are_taken(
    scene: str, labels: dict[str, str], reason: str, field: str, message: str
) -> None:
    refused = refusal(scene, labels)
    assert (refused.reason, refused.field, refused.message) == (reason, field, message)


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ({"count": 1, "joy": 1, "abc": 2}, "measures has 'abc'; scenes/bus takes count"),
        ({"joy": 1}, "measures lacks count; scenes/bus needs it"),
    ],
)
def test_a_measure_that_the_scene_does_not_have_is_refused(
    measures: dict[str, int], message: str
) -> None:
    assert read(report("bus", measures=measures)).refusals[0].message == message


def test_a_long_word_is_quoted_in_part() -> None:
    assert len(refusal("car", {"fuel": "x" * 10_000}).message) < 150
    assert len(refusal("car", {"x" * 10_000: "petrol"}).message) < 150


def test_one_bad_word_spoils_nothing_else() -> None:
    batch = read(
        report("car", "a", labels={"fuel": "diesel"}),
        report("car", "b", labels={"fuel": "coal"}),
        report("bus", "c"),
    )
    assert list(batch.refusals) == [1]
    assert batch.columns.label_1.tolist() == [2, 0]
    assert batch.rows.tolist() == [0, 2]


def test_a_digest_without_a_label_is_what_it_was_before_there_were_labels() -> None:
    for numbers, claim, digest in BEFORE_LABELS:
        assert KEYRING.content(numbers, claim).hex() == digest
        assert KEYRING.content(numbers, claim, 0).hex() == digest


def test_another_word_is_other_content_and_so_is_none() -> None:
    words = [{}, {"diet": WORDS[0]}, {"diet": WORDS[1]}, {"diet": WORDS[10]}]
    contents = read(*(report("lunch", labels=labels) for labels in words)).columns.contents
    assert len(set(contents.tolist())) == len(words)
    same = read(*(report("lunch", labels={"diet": WORDS[1]}) for _ in range(2))).columns.contents
    assert same[0] == same[1]


def test_no_claim_can_stand_for_a_label() -> None:
    word = {"diet": WORDS[0]}
    batch = read(
        report("bill", claim="bill-7"),
        report("bill", claim="bill-7", labels=word),
        report("bill", claim="bill-71"),
        report("bill", claim="bill-7\0001"),  # would have the digest of the second
    )
    assert len(set(batch.columns.contents.tolist())) == 3
    assert batch.refusals[3].field == "claim"


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ({**FUEL, "values": []}, "needs a list of values, 1 to 64"),
        ({**FUEL, "values": [*WORDS, "one-more"]}, "needs a list of values, 1 to 64"),
        ({**FUEL, "values": "petrol"}, "needs a list of values, 1 to 64"),
        ({**FUEL, "values": ["petrol", "petrol"]}, "has value 'petrol'"),
        ({**FUEL, "values": ["Petrol"]}, "has value 'Petrol'"),
        ({**FUEL, "values": ["petrol or so"]}, "has value 'petrol or so'"),
        ({**FUEL, "values": [""]}, "has value ''"),
        ({**FUEL, "values": [95]}, "has value 95"),
        ({**FUEL, "values": ["汽油"]}, "has value '汽油'"),
        ({**FUEL, "values": ["p" * 33]}, "at most 32 characters"),
        ({**FUEL, "name": "Fuel"}, "label 'Fuel' of scenes/any"),
        ({**FUEL, "name": ""}, "label '' of scenes/any"),
        ({**FUEL, "required": "yes"}, "required as true or false"),
        ({**FUEL, "unit": "LITRE"}, "write name, values, and required"),
        ({"name": "fuel", "values": ["petrol"]}, "write name, values, and required"),
    ],
)
def test_a_catalogue_whose_label_has_a_fault_is_not_loaded(
    label: dict[str, Any], said: str
) -> None:
    with pytest.raises(CatalogueInvalid) as caught:
        catalogue_of(scene_row(1, "scenes/any", label=label))
    assert said in str(caught.value)
    assert "scenes/any" in str(caught.value)


def test_one_word_and_sixty_four_are_taken_and_a_word_of_thirty_two_characters() -> None:
    for values in (["p" * 32], WORDS, ["95", "plug-in", "a_b"]):
        scene = catalogue_of(scene_row(1, "scenes/any", label={**FUEL, "values": values}))
        label = scene.scenes["scenes/any"].label
        assert label is not None
        assert label.values == tuple(values)
        assert label.codes == {word: place + 1 for place, word in enumerate(values)}


def test_codes_that_facts_carry_stay_what_they_are() -> None:
    """Entries may be added below; none may change."""
    scenes = load_catalogue().scenes.values()
    assert {scene.code: scene.name.removeprefix("scenes/") for scene in scenes} == {
        1: "metro-ride", 2: "bus-ride", 3: "shared-bike-ride", 4: "ecard-application",
        5: "e-statement", 6: "utility-payment", 7: "ev-ride", 8: "home-electricity-day",
        9: "home-solar", 10: "clothes-donation", 11: "phone-resale", 12: "walk",
        13: "carpool-ride",
    }  # fmt: skip
    assert {scene.code: (scene.label.name, scene.label.codes) for scene in scenes if scene.label} \
        == {7: ("fuel", {"petrol": 1, "diesel": 2})}  # fmt: skip


def test_every_scene_may_be_reported_by_somebody() -> None:
    catalogue = load_catalogue()
    reported = {scene for source in catalogue.sources.values() for scene in source.scenes}
    assert reported == set(catalogue.scenes)
