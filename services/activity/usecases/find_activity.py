"""Finding an activity by what its source calls the event, of which only a digest is kept."""

from __future__ import annotations

from typing import Protocol

from services.activity.domain.activity import Activity
from services.activity.domain.catalogue import Catalogue, Source
from services.activity.domain.keys import Keyring
from shared.refusal import CallerNotAllowed, ResourceNotFound


class Archive(Protocol):
    """What finding reads; see `storage.archive.Archive`."""

    def read_one(self, key: bytes) -> Activity | None: ...


def find_activity(
    source_name: str,
    source_event_id: str,
    *,
    caller: Source | None,
    catalogue: Catalogue,
    keyring: Keyring,
    archive: Archive,
) -> Activity:
    """The activity that sources/{source} reported under that id; `caller` is set for a source.

    CallerNotAllowed for a source that asks for events of another one; ResourceNotFound when
    there is no such source or event, and after erasure.
    """
    if caller is not None and caller.name != source_name:
        raise CallerNotAllowed(
            f"{caller.name} asks for an event of another source; a source finds its own only",
            metadata={"caller": caller.name, "method": "FindActivity"},
        )
    source = catalogue.sources.get(source_name)
    if source is None:
        raise ResourceNotFound(source_name[:64], "ListSources lists those there are")
    activity = archive.read_one(keyring.event_key(source.code, source_event_id))
    if activity is None:
        raise ResourceNotFound(
            f"an activity of {source_name} with that source_event_id",
            "it was never recorded, or its details were erased",
        )
    return activity
