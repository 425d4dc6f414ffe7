"""What a library credits: scene, region, days, version. Two libraries are compared by it.

The past of what credits is a fact like any other: it changes only by a restatement, which says
why. What lies ahead may change freely.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from services.calculation.domain.methodology import Library, Programme
from shared.ids import day_to_date

OPEN = 2**31 - 1
"""The day on which something ends that has no end yet."""


@dataclass(frozen=True, order=True)
class Line:
    """From `from_day` until before `to_day` that version credits that scene in that region."""

    scene: str
    region_prefix: str
    from_day: int
    to_day: int
    version: str
    digest: str
    scene_approval: str


def selection_of(programme: Programme) -> list[Line]:
    """Everything that a programme credits, in order."""
    return sorted(
        Line(
            entry.scene,
            entry.region_prefix,
            max(entry.from_day, version.effective_day),
            min(
                OPEN if entry.to_day is None else entry.to_day,
                OPEN if version.end_day is None else version.end_day,
            ),
            version.name,
            version.digest,
            entry.scene_approval,
        )
        for entry in programme.entries
        for version in entry.methodology.versions
        if entry.scene in version.scenes and version.creditable and entry.meets(version)
    )


def as_rows(lines: Iterable[Line]) -> list[dict[str, object]]:
    """Lines as plain rows, to be kept."""
    return [asdict(line) for line in lines]


def past_changes(
    before: Sequence[Line], after: Sequence[Line], today: int
) -> tuple[list[str], int | None]:
    """What of the days before `today` differs, in sentences, and the first day that does."""
    old, new = _until(before, today), _until(after, today)
    gone, come = sorted(old - new), sorted(new - old)
    said = [f"{_told(line)} no longer" for line in gone] + [_told(line) for line in come]
    days = [line.from_day for line in (*gone, *come)]
    return said, min(days, default=None)


def _until(lines: Iterable[Line], today: int) -> set[Line]:
    """The past of lines, days that meet joined, so that how they are cut does not matter."""
    joined: list[Line] = []
    for line in sorted(lines, key=lambda x: (_place(x), x.from_day)):
        if line.from_day >= today:
            continue
        cut = Line(**{**asdict(line), "to_day": min(line.to_day, today)})
        if joined and _place(joined[-1]) == _place(cut) and joined[-1].to_day == cut.from_day:
            cut = Line(**{**asdict(cut), "from_day": joined.pop().from_day})
        joined.append(cut)
    return set(joined)


def _place(line: Line) -> tuple[str, ...]:
    return line.scene, line.region_prefix, line.version, line.digest, line.scene_approval


def _told(line: Line) -> str:
    first, last = day_to_date(line.from_day), day_to_date(line.to_day - 1)
    region = line.region_prefix.ljust(6, "0") if line.region_prefix else "every region"
    return f"{line.version} credits {line.scene} in {region} from {first} to {last}"


def in_force(library: Library, today: int) -> dict[str, str]:
    """Digest by name of every version that is or was in force; their text never changes."""
    return {
        version.name: version.digest
        for methodology in library.methodologies.values()
        for version in methodology.versions
        if not version.draft and version.effective_day <= today
    }
