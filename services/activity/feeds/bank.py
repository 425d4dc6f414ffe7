"""The bank's own acts of the demonstration, made by the rules of a file.

They are made up and say so; nothing here is an act of a real customer.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import count, islice
from pathlib import Path

from services.activity.feeds.acts import MappedAct
from services.activity.feeds.columns import DAY_US, MINUTE_US, SECOND_US
from services.activity.feeds.load import GRADES, read_toml
from services.activity.feeds.mapping import Assumption
from services.activity.feeds.shape import MappingInvalid, read_shape

WORDS = {"account", "period", "item"}
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Accounts:
    """The demo accounts: `prefix` and a number from 0 in `digits` digits."""

    prefix: str
    digits: int
    count: int


@dataclass(frozen=True)
class BankActRule:
    """One act for each account, period (`YYYY-MM`) and item.

    `source_event_id` and `claim` are templates of {account} (its number), {period}, {item}. The
    moment lies on day first_day..last_day of the period and in first_minute..last_minute of that
    day, chosen by SHA-256 of the event id.
    """

    scene: str
    periods: tuple[str, ...]
    items: tuple[str, ...]
    source_event_id: str
    claim: str
    first_day: int
    last_day: int
    first_minute: int
    last_minute: int


@dataclass(frozen=True)
class SecondClaims:
    """The first `count` acts of `scene` again, by the next account, under `source_event_id`.

    That template has {event}, the event id of the first.
    """

    scene: str
    count: int
    source_event_id: str


@dataclass(frozen=True)
class BankMapping:
    """One file of generated acts, checked; `repeats` acts are sent twice, content and all."""

    id: str
    kind: str
    title_zh: str
    title_en: str
    operator: str
    source: str
    demo: bool
    region: str
    evidence_grade: str
    utc_offset_minute: int
    accounts: Accounts
    act: tuple[BankActRule, ...]
    repeats: int
    second_claims: SecondClaims
    assumption: tuple[Assumption, ...]


def read_bank_mapping(path: Path) -> BankMapping:
    """The mapping in that file; raises MappingInvalid naming the file, the key and the rule."""
    try:
        mapping = read_shape(BankMapping, read_toml(path), "mapping")
        for fault in _faults(mapping):
            raise MappingInvalid(fault)
    except MappingInvalid as error:
        raise MappingInvalid(f"{path.name}: {error}") from error
    return mapping


def bank_acts(mapping: BankMapping) -> Iterator[MappedAct]:
    """Every act once, then `repeats` of them again, then the second claims; always the same.

    `line` counts from 1. Repeats differ from the first only in `line`.
    """
    numbers = count(1)
    for act in _every(mapping):
        yield replace(act, line=next(numbers))
    for act in islice(_every(mapping), mapping.repeats):
        yield replace(act, line=next(numbers))
    second = mapping.second_claims
    claimed = (act for act in _every(mapping) if act.scene == second.scene)
    for act in islice(claimed, second.count):
        yield replace(
            act,
            line=next(numbers),
            source_event_id=second.source_event_id.format(event=act.source_event_id),
            account=_next_account(mapping.accounts, act.account),
        )


def _every(mapping: BankMapping) -> Iterator[MappedAct]:
    for rule in mapping.act:
        for period in rule.periods:
            for number in range(mapping.accounts.count):
                for item in rule.items:
                    yield _act(mapping, rule, number, period, item)


def _act(mapping: BankMapping, rule: BankActRule, number: int, period: str, item: str) -> MappedAct:
    digits = f"{number:0{mapping.accounts.digits}d}"
    words = {"account": digits, "period": period, "item": item}
    event_id = rule.source_event_id.format(**words)
    return MappedAct(
        0,
        event_id,
        rule.scene,
        {"count": 1},
        _moment_us(rule, period, event_id) - mapping.utc_offset_minute * MINUTE_US,
        mapping.region,
        mapping.accounts.prefix + digits,
        mapping.evidence_grade,
        rule.claim.format(**words),
    )


def _moment_us(rule: BankActRule, period: str, event_id: str) -> int:
    """Microseconds on the wall of the moment that the event id chooses."""
    chosen = int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:8])
    days = rule.last_day - rule.first_day + 1
    seconds = (rule.last_minute - rule.first_minute + 1) * 60
    first = date.fromisoformat(f"{period}-01").toordinal() - _EPOCH_DAY + rule.first_day - 1
    second = rule.first_minute * 60 + chosen // days % seconds
    return (first + chosen % days) * DAY_US + second * SECOND_US


def _next_account(accounts: Accounts, label: str) -> str:
    number = (int(label.removeprefix(accounts.prefix)) + 1) % accounts.count
    return f"{accounts.prefix}{number:0{accounts.digits}d}"


def _faults(mapping: BankMapping) -> Iterable[str]:
    if mapping.kind != "generated":
        yield f"kind is {mapping.kind!r}; this generator knows generated"
    if not mapping.demo:
        yield "demo must be true: generated acts are no acts of customers"
    if mapping.evidence_grade not in GRADES:
        yield f"evidence_grade is {mapping.evidence_grade!r}; one of {GRADES}"
    if mapping.accounts.count <= 0:
        yield "accounts.count must be above 0"
    for at, rule in enumerate(mapping.act):
        yield from _rule_faults(f"act[{at}]", rule)
    total = sum(1 for _ in _every(mapping)) if mapping.act else 0
    if not 0 <= mapping.repeats <= total:
        yield f"repeats is {mapping.repeats}; from 0 to {total}, the acts there are"
    second = mapping.second_claims
    there = sum(1 for act in _every(mapping) if act.scene == second.scene)
    if not 0 <= second.count <= there:
        yield f"second_claims.count is {second.count}; from 0 to {there}, the acts of its scene"
    if _words(second.source_event_id) != {"event"}:
        yield "second_claims.source_event_id must hold {event} and no other word"


def _rule_faults(where: str, rule: BankActRule) -> Iterable[str]:
    for period in rule.periods:
        try:
            date.fromisoformat(f"{period}-01")
        except ValueError:
            yield f"{where}.periods has {period!r}; a period is YYYY-MM"
    # Up to the 28th: the last day that every month has.
    if not 1 <= rule.first_day <= rule.last_day <= 28:
        yield f"{where} needs 1 <= first_day <= last_day <= 28"
    if not 0 <= rule.first_minute <= rule.last_minute < 24 * 60:
        yield f"{where} needs 0 <= first_minute <= last_minute < 1440"
    for template in (rule.source_event_id, rule.claim):
        if not _words(template) <= WORDS:
            yield f"{where} has template {template!r}; its words are {sorted(WORDS)}"


def _words(template: str) -> set[str]:
    try:
        return {word for _, word, _, _ in string.Formatter().parse(template) if word is not None}
    except ValueError:
        return {"(a brace that is not closed)"}
