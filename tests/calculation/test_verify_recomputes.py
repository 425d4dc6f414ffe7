"""A result is computed again from its methodology file alone; no number of it can be changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb

from services.calculation.domain.methodology import Version
from services.calculation.result_json import EVIDENCE_GRADES, VERDICTS
from services.calculation.verify import (
    Report,
    ResultUnreadable,
    compare,
    read_result,
    rule_of,
    verify,
)
from shared.storage.embedded import EmbeddedPostgres
from tests.calculation.domain.world import rules, whole_library
from tests.calculation.verify_world import (
    FILES,
    MADE_UP_FACTORS,
    REGISTRY_TEXTS,
    UNPRICED,
    Recorded,
    Result,
    bike,
    estimate_of,
    estimates,
)

RULES = {label: version for label, version, _ in rules()}


@pytest.fixture(scope="module")
def recorded(postgres: EmbeddedPostgres) -> Recorded:
    postgres.create_database("verified")
    return Recorded(postgres.url("verified"))


@pytest.fixture(scope="module")
def stored(recorded: Recorded) -> list[Result]:
    return recorded.results()


def verified(result: Result) -> Report:
    return verify(read_result(result.json), result.text, MADE_UP_FACTORS)


def differing(result: Result) -> list[str]:
    return [str(finding) for finding in verified(result).findings if not finding.agrees]


@pytest.mark.parametrize("label", RULES)
def test_an_estimate_of_every_rule_comes_to_the_same_from_its_file(label: str) -> None:
    methodology, _, scene = label.split("/")
    text = FILES[f"{methodology}.toml"]
    for result in estimates(RULES[label], f"scenes/{scene}", whole_library(), text, 2):
        report = verify(read_result(result.json), text, REGISTRY_TEXTS)
        assert report.agrees, [str(finding) for finding in report.findings]
        assert len(report.steps) == len(result.assessment.steps) > 0


def test_every_recorded_result_comes_to_the_same_from_its_file(stored: list[Result]) -> None:
    assert [found for result in stored if (found := differing(result))] == []


def test_what_was_recorded_has_met_every_part_of_the_format(stored: list[Result]) -> None:
    told = [result.assessment for result in stored]
    assert {one.verdict for one in told} == {1, 2, 3, 4, 5}
    assert {len(one.caps) for one in told} == {0, 1, 2}
    assert {one.asset.partition(":")[0] for one in told} == {"reduction", "point", ""}
    assert any(one.verdict == pb.VERDICT_CAPPED and one.reduction_mg for one in told)
    assert any(all(cap.used_before for cap in one.caps) for one in told if len(one.caps) == 2)
    assert any(not mean.isdigit() for one in told for mean in one.history.values())
    assert any(one.labels for one in told)
    assert any(one.low_mg < one.uncapped_mg < one.high_mg for one in told)
    assert any(one.low_mg == one.uncapped_mg < one.high_mg for one in told)  # the least is credited
    assert any("spare_count" in one.measures for one in told)
    assert any(one.reduction_mg and one.asset == "point:test-energy" for one in told)  # one `count`


def test_what_a_withdrawal_changed_and_what_it_left_come_to_the_same(
    postgres: EmbeddedPostgres,
) -> None:
    postgres.create_database("verified_withdrawn")
    world = Recorded(postgres.url("verified_withdrawn"))
    before = world.results()
    gone = [
        position
        for position, one in enumerate(before, 1)
        if one.assessment.reduction_mg and any(not cap.used_before for cap in one.assessment.caps)
    ][:4]
    world.withdraw(gone)
    after = world.results()
    assert [found for result in after if (found := differing(result))] == []
    for position in gone:
        report = verified(after[position - 1])
        assert (report.steps, "withdrawn" in report.note) == ((), True)
    pairs = zip(before, after, strict=True)
    moved = [n for n, (one, other) in enumerate(pairs, 1) if one.json != other.json]
    assert set(moved) > set(gone)  # caps that they had used were free again


STEP = {"label_en": "distance", "expression": "distance_metre", "result": "3000"}


@pytest.mark.parametrize(
    ("more", "agrees"),
    [
        ({}, True),
        ({"uncapped_mg": "5"}, True),  # what it would have earned
        ({"reduction_mg": "1"}, False),
        ({"low_mg": "1"}, False),
        ({"high_mg": "1"}, False),
        ({"steps": [STEP]}, False),
        ({"result_digest": "0" * 64}, False),
    ],
)
def test_a_withdrawn_result_may_earn_and_show_nothing(more: dict[str, Any], agrees: bool) -> None:
    report = verify(read_result(json.dumps({"verdict": "VERDICT_WITHDRAWN", **more})))
    assert report.agrees == agrees


def test_what_nothing_credits_has_nothing_to_compute_and_may_earn_nothing(
    stored: list[Result],
) -> None:
    unpriced = next(one for one in stored if one.assessment.scene == UNPRICED)
    report = verify(read_result(unpriced.json))
    assert (report.agrees, report.steps) == (True, ())
    for name in ("reduction_mg", "uncapped_mg", "low_mg", "high_mg"):
        assert not verify(read_result(json.dumps(unpriced.tree | {name: "1"}))).agrees
    with pytest.raises(ResultUnreadable, match="methodology_version is empty"):
        verify(read_result(json.dumps(unpriced.tree | {"verdict": "VERDICT_GRANTED"})))


# Changing anything

Path_ = tuple[str | int, ...]
UNCHECKED = {"name", "programme", "assess_time", "superseding"}
WORDS = {"verdict": VERDICTS, "evidence_grade": EVIDENCE_GRADES}
SAMPLED: dict[str, Callable[[pb.Assessment], Any]] = {
    # Scene, and what its result must show for the change of it to mean something.
    "scenes/uncertain-low": lambda one: one.caps[0].used_before and one.low_mg < one.high_mg,
    "scenes/history-household": lambda one: one.history["own_mean_watt_hour"] != "0",
    "scenes/table-fuel": lambda one: one.labels,
    "scenes/wide-table": lambda one: one.reduction_mg and one.labels,
    "scenes/three-caps": lambda one: len(one.caps) == 2 and one.caps[1].used_before,
    "scenes/quoted-grid": lambda one: one.reduction_mg,
    "scenes/day-distance": lambda one: one.evidence_grade == 2 and one.reduction_mg,
}


def sample(stored: list[Result], scene: str) -> Result:
    """The first recorded result of the scene that shows what is to be changed."""
    return next(
        one for one in stored if one.assessment.scene == scene and SAMPLED[scene](one.assessment)
    )


def leaves(tree: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value that is no object and no list, and where it is."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key), item


def changed(value: Any, path: Path_) -> Any:
    """Another value of the same kind."""
    if path[-1] in WORDS:
        words = list(WORDS[str(path[-1])])
        return words[words.index(value) - 1]
    if isinstance(value, int):
        return value + 1
    if value.isdigit():
        return str(int(value) + 1).rjust(len(value), "0")
    if path[0] == "history":
        return value + "1"
    return value + "x" if path != ("region_code",) else "440301"


def with_change(tree: dict[str, Any], path: Path_, change: Callable[[Any, Any], None]) -> str:
    """The JSON after a change of the object that holds the end of the path."""
    copy = json.loads(json.dumps(tree))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return json.dumps(copy)


def drop(holder: Any, key: Any) -> None:
    del holder[key]


def is_caught(said: str, result: Result, rule: Version | None = None) -> bool:
    """Whether the changed JSON is refused, or differs; `rule` saves loading the file again."""
    try:
        read = read_result(said)
        if rule is not None and read.scene in rule.scenes and read.methodology_version == rule.name:
            return not compare(read, rule).agrees
        return not verify(read, result.text, MADE_UP_FACTORS).agrees
    except ResultUnreadable:
        return True


@pytest.mark.parametrize("scene", SAMPLED)
def test_no_value_of_a_result_can_be_changed_or_left_out_unseen(
    stored: list[Result], scene: str
) -> None:
    result = sample(stored, scene)
    tree, rule = result.tree, rule_of(read_result(result.json), result.text, MADE_UP_FACTORS)
    assert not is_caught(json.dumps(tree), result)
    assert not is_caught(json.dumps(tree), result, rule)
    told = [(path, value) for path, value in leaves(tree) if path[0] not in UNCHECKED]
    told = [(path, value) for path, value in told if path != ("measures", "spare_count")]
    assert len(told) > 60
    for path, value in told:

        def put(holder: Any, key: Any, value: Any = value, path: Path_ = path) -> None:
            holder[key] = changed(value, path)

        assert is_caught(with_change(tree, path, put), result, rule), (path, value)
        if value not in ("", "0", 0, "EVIDENCE_GRADE_UNSPECIFIED") and isinstance(path[-1], str):
            left = with_change(tree, path, drop)
            assert is_caught(left, result, rule), path


@pytest.mark.parametrize("scene", SAMPLED)
def test_no_step_or_cap_can_be_added_dropped_or_moved_unseen(
    stored: list[Result], scene: str
) -> None:
    result = sample(stored, scene)
    for name in ("steps", "caps"):
        tree = result.tree
        rows = tree[name]
        others = [rows[1:], rows[::-1], [*rows, *rows[-1:]], rows[:-1]]
        for other in (other for other in others if other != rows):
            assert is_caught(json.dumps(tree | {name: other}), result), (name, len(other))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("reduction_mg", "999", "reduction_mg: differs: said 999, computed "),
        ("evidence_grade", "EVIDENCE_GRADE_RECORDED", "reduction_mg: differs"),
        ("civil_date", {"year": 2019, "month": 12, "day": 31},
         "civil_date: differs: said 2019-12-31, the version holds from 2020-01-01 on"),
        ("methodology_digest", "0" * 64, f"methodology_digest: differs: said '{'0' * 64}'"),
        ("result_digest", "", "result_digest: differs: said '', computed '"),
        ("asset", "point:trees", "asset: differs: said 'point:trees', computed 'reduction'"),
        ("verdict", "VERDICT_NOT_ELIGIBLE", "verdict: differs: said 'VERDICT_NOT_ELIGIBLE'"),
        ("labels", {"fuel": "coal"}, "labels: differs: said {'fuel': 'coal'}, computed {}"),
        ("history", {"past": "3"}, "history: differs: said {'past': '3'}, computed {}"),
        ("caps", [{"cap": "km-a-day", "used_before": "-9"}],
         "used_before of km-a-day: differs: said -9, no cap is used below zero"),
    ],
)  # fmt: skip
def test_what_differs_is_said_with_both_values(
    stored: list[Result], name: str, value: Any, expected: str
) -> None:
    result = sample(stored, "scenes/day-distance")
    report = verify(read_result(json.dumps(result.tree | {name: value})), result.text)
    apart = [str(finding) for finding in report.findings if not finding.agrees]
    assert any(line.startswith(expected) for line in apart), apart


def test_a_source_that_was_changed_in_one_step_is_found_in_that_step(stored: list[Result]) -> None:
    result = sample(stored, "scenes/day-distance")
    tree = result.tree
    tree["steps"][1]["source"] = "a better document"
    report = verify(read_result(json.dumps(tree)), result.text)
    assert [str(finding) for finding in report.findings if not finding.agrees] == [
        "step 2, source: differs: said 'a better document', computed 'invented'"
    ]


def test_of_two_long_texts_the_part_is_shown_in_which_they_differ(stored: list[Result]) -> None:
    result = sample(stored, "scenes/day-distance")
    tree = result.tree
    tree["steps"][1]["sentence_en"] = "So " * 100 + "it was."
    text = result.text.replace('label_en = "factor"', f'label_en = "{"So " * 100}"', 1)
    report = verify(read_result(json.dumps(tree)), text)
    (apart,) = [one for one in report.findings if one.what == "step 2, sentence_en"]
    assert apart.said.startswith("...' So So ")
    assert apart.said.endswith("So it was.'")
    assert len(str(apart)) < 300


@pytest.mark.parametrize(("mean", "agrees"), [("100000", True), ("100001", False), ("-1", False)])
def test_a_past_beyond_what_a_day_can_count_is_not_believed(mean: str, agrees: bool) -> None:
    result = estimate_of("history-household", "history-household")
    tree = result.tree
    tree["history"]["own_mean_watt_hour"] = mean
    report = verify(read_result(json.dumps(tree)), result.text)
    apart = {finding.what for finding in report.findings if not finding.agrees}
    assert ("history.own_mean_watt_hour" not in apart) == agrees


def test_what_the_file_cannot_confirm_is_named(stored: list[Result]) -> None:
    report = verified(sample(stored, "scenes/day-distance"))
    assert report.unchecked == (
        "name", "programme", "assess_time", "measures.spare_count (the rule does not read it)",
    )  # fmt: skip


def test_another_scene_of_the_same_rule_is_another_result() -> None:
    result = estimate_of("rizhao-bank", "heating-payment")
    assert verify(read_result(result.json), result.text).agrees
    other = result.tree | {"scene": "scenes/utility-payment"}
    report = verify(read_result(json.dumps(other)), result.text)
    assert {finding.what for finding in report.findings if not finding.agrees} == {"result_digest"}


# Another file


@pytest.mark.parametrize(
    ("old", "new", "apart"),
    [
        ("mm.chinapower.com.cn 2022-07-21", "elsewhere", {"methodology_digest", "result_digest"}),
        ("max = 100_000", "max = 100_001", {"methodology_digest", "result_digest"}),
    ],
)
def test_a_file_with_another_word_is_not_the_file(old: str, new: str, apart: set[str]) -> None:
    result = bike()
    assert old in result.text
    report = verify(read_result(result.json), result.text.replace(old, new))
    assert apart <= {finding.what for finding in report.findings if not finding.agrees}


def test_a_file_with_another_factor_comes_to_another_amount(stored: list[Result]) -> None:
    result = sample(stored, "scenes/day-distance")
    assert result.text.count('"33.33"') == 1
    other = result.text.replace('"33.33"', '"44.44"')
    with pytest.raises(
        ResultUnreadable, match=r"day-distance\.toml:\d+:1: case km: must give 34030"
    ):
        verify(read_result(result.json), other)  # its own published cases do not come out
    mended = without_its_cases(other)
    report = verify(read_result(result.json), mended)
    apart = {finding.what for finding in report.findings if not finding.agrees}
    assert {"methodology_digest", "uncapped_mg", "step 2, result", "result_digest"} <= apart


def without_its_cases(text: str) -> str:
    """The text with one case that any factor passes; cases are no part of the digest."""
    head = text[: text.index("[[version.rule.case]]")]
    return head + (
        '[[version.rule.case]]\nid = "none"\nmeasures = { distance_metre = 0 }\n'
        'expected_mg = 700\nsource = "arithmetic"\n'
    )


def test_cases_and_titles_of_the_file_may_differ(stored: list[Result]) -> None:
    result = sample(stored, "scenes/day-distance")
    assert verify(read_result(result.json), without_its_cases(result.text)).agrees


def test_a_registry_with_another_number_is_found(stored: list[Result]) -> None:
    result = sample(stored, "scenes/quoted-grid")
    factors = dict(MADE_UP_FACTORS)
    factors["made-up-grid.toml"] = factors["made-up-grid.toml"].replace("0.4403", "0.4404")
    text = result.text.replace("expected_mg = 508400", "expected_mg = 508425")
    report = verify(read_result(result.json), text, factors)
    apart = {finding.what for finding in report.findings if not finding.agrees}
    assert "methodology_digest" in apart
