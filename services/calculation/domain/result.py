"""The digest of a result: whoever holds the act and the methodology file comes to the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from services.calculation.domain.exact import Act
from services.calculation.domain.explain import history_text
from services.calculation.domain.methodology import Version
from shared.ids import day_to_date

FORMAT = 1
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def label_words(version: Version, act: Act) -> dict[str, str]:
    """The act's labels by name, as words."""
    codes = {label.name: act.labels.get(label.name, 0) for label in version.labels}
    return {
        label.name: label.values[codes[label.name] - 1]
        for label in version.labels
        if 1 <= codes[label.name] <= len(label.values)
    }


def result_digest(
    version: Version, scene: str, act: Act, used_before: Sequence[int], credited: int
) -> str:
    """SHA-256 (hex) over canonical JSON of act, version, what caps had used, and the result."""
    form = {
        "format": FORMAT,
        "methodology_version": version.name,
        "methodology_digest": version.digest,
        "scene": scene,
        "measures": {m.name: act.measures[m.name] for m in version.measures},
        "labels": label_words(version, act),
        "history": history_text(version, act),
        "region": act.region,
        "day": day_to_date(act.day).isoformat(),
        "grade": act.grade,
        "used_before": list(used_before),
        "credited": credited,
        "unit": version.unit,
    }
    return hashlib.sha256(_CANONICAL.encode(form).encode()).hexdigest()
