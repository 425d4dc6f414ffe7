"""The bank's own acts of the demonstration, made by the rules of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from services.activity.feeds_lead.mapping import MappedAct


def bank_acts(mapping: Mapping[str, Any]) -> Iterator[MappedAct]:
    """Every act, then some of them again as they are, then some bills under another event id."""
    yield from _acts(mapping)
    yield from islice(_acts(mapping), mapping["repeats"])
    bills = (act for act in _acts(mapping) if act.scene == "scenes/utility-payment")
    for act in islice(bills, mapping["second_claims"]):
        yield replace(act, source_event_id=f"again-{act.source_event_id}")


def _acts(mapping: Mapping[str, Any]) -> Iterator[MappedAct]:
    line = 0
    for rule in mapping["act"]:
        for text in rule["times"]:
            moment = datetime.fromisoformat(text)
            occur_us = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            for number in range(mapping["accounts"]):
                line += 1
                words = {"number": number, "period": f"{moment:%Y-%m}"}
                yield MappedAct(
                    line=line,
                    account=mapping["label"].format(number=number),
                    scene=rule["scene"],
                    source_event_id=rule["event_id"].format(**words),
                    occur_time_us=occur_us,
                    measures={"count": 1},
                    region_code=mapping["region_code"],
                    evidence_grade=mapping["evidence_grade"],
                    claim=rule["claim"].format(**words),
                )
