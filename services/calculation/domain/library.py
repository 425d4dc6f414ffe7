"""Loading the library: every file is checked whole before anything serves.

All faults of all files are said at once. Published cases are run: a version that misses one
does not load, so nothing half-loaded or wrong ever serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from itertools import pairwise

from services.calculation.domain.factor_parts import read_region
from services.calculation.domain.factors import Series
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.loading import read_methodology
from services.calculation.domain.methodology import (
    Entry,
    Library,
    Methodology,
    Programme,
    full_scene,
)
from services.calculation.domain.reading import FileInvalid, Section, read_toml

__all__ = ["Library", "LibraryFault", "LibraryInvalid", "changed_versions", "load_library"]

PROGRAMMES = "programmes/"


def load_library(
    files: Mapping[str, str],
    registry: Mapping[str, Series] | None = None,
    read: MutableMapping[tuple[str, str], Methodology] | None = None,
) -> Library:
    """The library of `files` (path relative to methodologies/ -> text), quoting `registry`.

    Files that do not end in .toml are passed over. Raises LibraryInvalid. `read` has what was
    read before of a path and text under the same registry, which is not read again; what is
    read now is added to it.
    """
    read = {} if read is None else read
    faults: list[LibraryFault] = []
    methodologies: dict[str, Methodology] = {}
    programmes: dict[str, Programme] = {}
    paths = sorted(path for path in files if path.endswith(".toml"))
    for path in sorted(paths, key=lambda path: path.startswith(PROGRAMMES)):
        text = files[path]
        known = read.get((path, text))
        if known is not None and known.id not in methodologies:
            methodologies[known.id] = known
            continue
        try:
            root = read_toml(text)
            if path.startswith(PROGRAMMES):
                programme = _programme(root, path, methodologies)
                programmes[programme.id] = programme
            else:
                name = _id(root, path)
                if name in methodologies:
                    raise root.fault(f"id {name!r} is taken by another file; choose another", "id")
                methodologies[name] = read_methodology(root, registry or {})
                read[path, text] = methodologies[name]
        except FileInvalid as error:
            faults.append(LibraryFault(path, error.line, error.column, error.message))
    if faults:
        raise LibraryInvalid(faults)
    return Library(methodologies, programmes)


def changed_versions(library: Library, sealed: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong with versions (name, digest) that were in force; [] when nothing is.

    Such a version is a fact: assessments quote its digest, and their working is shown again
    from its file.
    """
    held = {
        version.name: version.digest
        for methodology in library.methodologies.values()
        for version in methodology.versions
    }
    return [
        f"{name} was in force by a text with digest {digest[:16]}, and "
        + (f"its file now has {held[name][:16]}" if name in held else "the library has none")
        + "; a version that was in force never changes: put the file back as it was and write "
        "the change as a new version"
        for name, digest in sorted(sealed)
        if held.get(name) != digest
    ]


def _id(root: Section, path: str) -> str:
    name = root.text("id")
    stem = path.rsplit("/", 1)[-1].removesuffix(".toml")
    if name != stem:
        raise root.fault(
            f"id is {name[:60]!r} in a file named {stem}.toml; make the two equal", "id"
        )
    return name


def _programme(root: Section, path: str, methodologies: Mapping[str, Methodology]) -> Programme:
    name = _id(root, path)
    demo = root.flag("demo")
    rows = root.sections("entry", at_least=1)
    entries = [(row, _entry(row, demo, methodologies)) for row in rows]
    programme = Programme(
        id=name,
        title_zh=root.text("title_zh"),
        title_en=root.text("title_en"),
        demo=demo,
        assumptions=tuple(root.texts("assumptions", [])),
        entries=tuple(entry for _, entry in entries),
    )
    root.close()
    order = sorted(entries, key=lambda one: (one[1].scene, one[1].region_prefix, one[1].from_day))
    for (_, older), (row, newer) in pairwise(order):
        same = (older.scene, older.region_prefix) == (newer.scene, newer.region_prefix)
        if same and (older.to_day is None or newer.from_day < older.to_day):
            raise row.fault(
                f"two entries credit {newer.scene} in the same region on the same day; "
                "give the older one a to_date not after the newer one's from_date", "from_date"
            )  # fmt: skip
    return programme


def _entry(row: Section, demo: bool, methodologies: Mapping[str, Methodology]) -> Entry:
    scene, wanted = full_scene(row.text("scene")), row.text("methodology")
    methodology = methodologies.get(wanted)
    if methodology is None:
        known = ", ".join(sorted(methodologies)) or "none"
        raise row.fault(f"methodology {wanted!r} did not load or is not there; there is {known}",
                        "methodology")  # fmt: skip
    if scene not in methodology.scenes:
        scenes = ", ".join(sorted(methodology.scenes))
        raise row.fault(f"{wanted} does not price {scene}; it prices {scenes}", "scene")
    entry = Entry(
        scene=scene,
        region_prefix=read_region(row),
        methodology=methodology,
        scene_approval=row.text("scene_approval"),
        from_day=row.day("from_date") or 0,
        to_day=row.day("to_date", required=False),
    )
    row.close()
    if entry.to_day is not None and entry.to_day <= entry.from_day:
        raise row.fault("to_date must be after from_date", "to_date")
    if demo and "demo" not in entry.scene_approval.lower():
        raise row.fault("scene_approval must say that this is a demo", "scene_approval")
    meeting = [v for v in methodology.versions if scene in v.scenes and entry.meets(v)]
    if not meeting:
        raise row.fault(f"no version of {wanted} is in force on these days; change the days",
                        "from_date")  # fmt: skip
    for version in meeting:
        if not version.creditable:
            why = f"has status {version.status}"
            if version.asset == "emission":
                why = "counts an emission"
            if version.draft:
                why = f"is a draft ({version.draft})"
            raise row.fault(
                f"{version.name} {why} and may not credit; name one whose values are official, "
                "reposted or operator", "methodology"
            )  # fmt: skip
    return entry
