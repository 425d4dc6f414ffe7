"""What a mapped feed yields: an act that can be reported, or a line that was refused."""

from __future__ import annotations

from dataclasses import dataclass, field

FIELD_INVALID = "FIELD_INVALID"
LIMIT_REACHED = "LIMIT_REACHED"
# The closed set, by the names of carbonaccount.errors.v1.Reason.
REASONS = (FIELD_INVALID, LIMIT_REACHED)

ROUND_TRIP = "round_trip"
OVER_MIDNIGHT = "over_midnight"


@dataclass(frozen=True, slots=True)
class MappedAct:
    """One act, ready to be reported.

    `line` is its place in the file (the header is line 1) or in the generated series.
    `measures` are whole numbers in base units; `occur_time_us` is UTC, in microseconds since
    1970; `account` is the label of a demo account, not a resource name. `claim` is empty where
    the scene asks for none. `remarks` says which stated rule the act met. `labels` are words of
    the scene's closed lists.
    """

    line: int
    source_event_id: str
    scene: str
    measures: dict[str, int]
    occur_time_us: int
    region: str
    account: str
    evidence_grade: str
    claim: str = field(default="", repr=False)
    remarks: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """One line that became no act, with what its sender needs to mend it.

    `reason` is one of REASONS. `field` is a column's name, or `line`, `header` or `file`.
    `value` is shortened, printable, and empty where quoting it could show a column that is
    never read. When `ends_feed` is true nothing after this line was read.
    """

    line: int
    reason: str
    field: str
    value: str
    rule: str
    way_out: str
    ends_feed: bool = False

    @property
    def message(self) -> str:
        """One sentence: place, value, rule, way out."""
        said = f"{self.field} is {self.value!r}" if self.value else self.field
        return f"line {self.line}: {said}: {self.rule}; {self.way_out}"


def shorten(text: str, chars_max: int) -> str:
    """`text` in at most `chars_max` printable characters."""
    head = "".join(char if char.isprintable() else "?" for char in text[:chars_max])
    return head if len(text) <= chars_max else head[: chars_max - 1] + "…"
