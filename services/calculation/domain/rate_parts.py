"""Reading which rule of the library prices a thing; checked for every version of the rule."""

from __future__ import annotations

from collections.abc import Mapping

from services.calculation.domain.methodology import Library, Version, full_scene
from services.calculation.domain.rates import Note, Rate
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import Factor


def read_rate(row: Section, library: Library, labels: Mapping[str, str]) -> Rate:
    """The rule that a table of a calculator names; FileInvalid where the library has none such."""
    name, scene = row.text("methodology"), full_scene(row.text("scene"))
    methodology = library.methodologies.get(name)
    if methodology is None:
        raise row.fault(f"methodology {name[:60]!r} is not in the library", "methodology")
    versions = [version for version in methodology.versions if scene in version.scenes]
    if not versions:
        scenes = ", ".join(sorted(methodology.scenes))
        raise row.fault(f"{name} does not price {scene[:60]}; it prices {scenes}", "scene")
    if versions[0].asset != "emission":
        raise row.fault(
            f"{name} counts {versions[0].asset}; a calculator takes emissions alone", "methodology"
        )
    if any(v.caps or v.grades or v.histories for v in versions):
        raise row.fault(f"{name} has caps, grades or a history; an emission has none", "scene")
    codes = _codes(row, versions[0], labels)
    if any(_codes(row, version, labels) != codes for version in versions):
        raise row.fault(f"versions of {name} order the words of a label differently", "labels")
    return Rate(methodology, scene, codes, _meaning(row, versions, codes))


def _codes(row: Section, version: Version, labels: Mapping[str, str]) -> dict[str, int]:
    declared = {label.name: label.values for label in version.labels}
    if set(labels) != set(declared):
        names = ", ".join(declared) or "none"
        raise row.fault(f"labels must be exactly those of {version.name}: {names}", "labels")
    for name, word in labels.items():
        if word not in declared[name]:
            words = ", ".join(declared[name])
            raise row.fault(f"{name} is {word[:40]!r}; {version.name} takes {words}", "labels")
    return {name: declared[name].index(word) + 1 for name, word in labels.items()}


def _meaning(row: Section, versions: list[Version], codes: Mapping[str, int]) -> Note | None:
    """What low and high stand for; None where the source gives none."""
    told = Note(row.text("interval_zh", ""), row.text("interval_en", ""))
    uncertain = {any(_has_ends(factor, codes) for factor in v.factors) for v in versions}
    if len(uncertain) > 1:
        raise row.fault(
            "some versions of the methodology give an interval and some do not; a calculator "
            "cannot say what its ends stand for", "methodology",
        )  # fmt: skip
    if uncertain == {True} and not (told.zh and told.en):
        raise row.fault("its factor has low and high; say what they stand for", "interval_zh")
    if uncertain == {False} and (told.zh or told.en):
        raise row.fault(
            "its factor has no low and high; leave interval_zh and interval_en out", "interval_zh"
        )
    return told if uncertain == {True} else None


def _has_ends(factor: Factor, codes: Mapping[str, int]) -> bool:
    """Whether a factor has an interval for acts with these labels."""
    if factor.table is None:
        return bool(factor.low)
    wanted = tuple(codes.get(name, 0) for name in factor.table.labels)
    return any(row.low for row in factor.table.rows if row.codes == wanted)
