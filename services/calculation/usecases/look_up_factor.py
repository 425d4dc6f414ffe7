"""Looking a factor up, and saying why it is this one and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from services.calculation.domain.factors import FactorValue, Series, look_up, regions_of
from shared.ids import day_to_date
from shared.refusal import FieldInvalid, ResourceNotFound

PREFIX = "factorSeries/"

_CODE = re.compile(r"[1-9][0-9]{5}", re.ASCII)
_SHOWN_MAX = 12


@dataclass(frozen=True)
class FactorQuestion:
    """Of what, where, and by what was known on which day; `year` None is the newest known."""

    series: str
    region: str
    key: str
    as_of_day: int
    year: int | None


@dataclass(frozen=True)
class FoundFactor:
    """The factor with its series, and one sentence a language on why it was chosen."""

    series: Series
    value: FactorValue
    reason_zh: str
    reason_en: str


def find_series(name: str, registry: Mapping[str, Series]) -> Series:
    """The series of a name such as factorSeries/grid-average-cn; ResourceNotFound without one."""
    series = registry.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if series is None:
        near = get_close_matches(name.removeprefix(PREFIX), list(registry), n=1, cutoff=0)
        hint = f"the nearest is {PREFIX}{near[0]}; " if near else ""
        raise ResourceNotFound(name[:96], f"{hint}ListFactorSeries lists all")
    return series


def look_up_factor(asked: FactorQuestion, registry: Mapping[str, Series]) -> FoundFactor:
    """The factor of the most specific region that has one, of the newest year or the one asked.

    ResourceNotFound for an unknown series and where nothing was known on that day, FieldInvalid
    for a region or key that the series cannot have.
    """
    series = find_series(asked.series, registry)
    _check(asked, series)
    value = look_up(
        series, region=asked.region, key=asked.key, as_of_day=asked.as_of_day, year=asked.year
    )
    if value is None:
        raise ResourceNotFound(_said(asked, series), _what_there_is(series, asked))
    return FoundFactor(series, value, _reason_zh(asked, series, value),
                       _reason_en(asked, series, value))  # fmt: skip


def _said(asked: FactorQuestion, series: Series) -> str:
    """What was asked for, in words."""
    kind = f" for {asked.key}" if asked.key else ""
    year = f" and data year {asked.year}" if asked.year else ""
    place = f"in {asked.region}" if asked.region else "everywhere"
    return f"a value of {PREFIX}{series.id}{kind} {place} as of {_date(asked.as_of_day)}{year}"


def _check(asked: FactorQuestion, series: Series) -> None:
    areas = {v.region for v in series.values if v.region and not v.region.isdigit()}
    if asked.region and not _CODE.fullmatch(asked.region) and asked.region not in areas:
        or_area = f", or an area that {series.id} has: {_some(areas)}" if areas else ""
        raise FieldInvalid(
            "region_code",
            f"region_code is {asked.region[:40]!r}; write six digits such as 440300, nothing for "
            f"everywhere{or_area}",
        )
    keys = {v.key for v in series.values}
    if asked.key not in keys:
        raise FieldInvalid(
            "key",
            f"key is {asked.key[:40]!r}; {series.id} has {_some(keys - {''}) or 'one kind only'}"
            + ("; leave it empty" if keys == {""} else ""),
        )


def _what_there_is(series: Series, asked: FactorQuestion) -> str:
    """What the caller may ask instead: of the same key, the places and days there are."""
    places = regions_of(asked.region)
    same = [v for v in series.values if v.key == asked.key]
    there = [v for v in same if v.region in places]
    if not there:
        regions = {v.region or "everywhere" for v in same}
        return f"the series has values for {_some(regions)}"
    said = {f"data year {v.year or 'unknown'} {_since(v)}" for v in there}
    return f"there is {_some(said)}"


def _reason_en(asked: FactorQuestion, series: Series, value: FactorValue) -> str:
    day, own = _date(asked.as_of_day), value.region == asked.region
    if asked.year:
        said = [f"Data year {asked.year}, as asked for"]
    elif value.year:
        said = [f"{value.year} is the newest data year known on {day}"]
    else:
        said = ["No document says its data year"]
    said.append(
        "its day of publication is not known, so it counts as always known"
        if value.publish_day is None
        else f"published on {_date(value.publish_day)}"
    )
    where = f"it is the value for {value.region or 'everywhere'}"
    none = " and ".join(_passed_over(asked, value))
    said.append(where if own else f"{where}, because there is none for {none}")
    said += [f"data year {v.year} was published later, on {_date(v.publish_day)}"
             for v in _later_years(asked, series, value)]  # fmt: skip
    if after := series.superseding(value):
        said.append(f"superseded on {_date(after.publish_day)} by {after.value}")
    return "; ".join(said) + "."


def _reason_zh(asked: FactorQuestion, series: Series, value: FactorValue) -> str:
    day, own = _date(asked.as_of_day), value.region == asked.region
    if asked.year:
        said = [f"按要求取{asked.year}年数据"]
    elif value.year:
        said = [f"截至{day}已知的最新数据年份为{value.year}年"]
    else:
        said = ["文件未载明数据年份"]
    said.append(
        "发布日期不详，视为一直已知"
        if value.publish_day is None
        else f"发布于{_date(value.publish_day)}"
    )
    where = f"取{value.region or '全国（通用）'}的数值"
    none = "、".join(_passed_over(asked, value))
    said.append(where if own else f"{where}，因为{none}没有数值")
    said += [f"{v.year}年数据发布较晚（{_date(v.publish_day)}）"
             for v in _later_years(asked, series, value)]  # fmt: skip
    if after := series.superseding(value):
        said.append(f"已于{_date(after.publish_day)}被{after.value}取代")
    return "；".join(said) + "。"


def _passed_over(asked: FactorQuestion, value: FactorValue) -> list[str]:
    """The more specific regions that had no value."""
    places = regions_of(asked.region)
    return places[: places.index(value.region)]


def _later_years(asked: FactorQuestion, series: Series, value: FactorValue) -> list[FactorValue]:
    """Newer data years of its region and key, which were not known yet; none for a set year."""
    return [
        v
        for v in series.values
        if not asked.year and (v.region, v.key) == (value.region, value.key) and v.year > value.year
    ]


def _some(words: set[str]) -> str:
    shown = sorted(words)
    more = len(shown) - _SHOWN_MAX
    return ", ".join(shown[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _date(day: int | None) -> str:
    return "an unknown day" if day is None else day_to_date(day).isoformat()


def _since(value: FactorValue) -> str:
    return "always" if value.publish_day is None else f"from {_date(value.publish_day)} on"
