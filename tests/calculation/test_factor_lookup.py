"""FactorService over a real server: what holds where and when, why, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from carbonaccount.calculation.v1 import factor_service_pb2 as pb
from carbonaccount.calculation.v1 import factor_service_pb2_grpc as pb_grpc
from google.type import date_pb2

from services.calculation.domain.factors import Series
from services.calculation.domain.registry import load_registry
from services.calculation.factor_files import read_factor_files
from services.calculation.rpc.factor_servicer import FactorServicer
from shared.rpc.server import Server
from shared.rpc.status import reason_of
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key

FILES = read_factor_files()
SHIPPED = load_registry(FILES)
GRID = "factorSeries/grid-average-cn"
JUNE_2025_US = 1_748_736_000_000_000  # 2025-06-01 00:00 UTC, the morning of that day in UTC+8
CORRECTION = """
[[value]]
region = "440000"
year = 2022
publish_date = 2025-03-01
value = "0.4500"
source = "a correction that this test made up"
status = "secondary"
"""

Ask = Callable[[Any], Awaitable[Any]]


@asynccontextmanager
async def served(keys: Path, registry: dict[str, Series], now_us: int) -> AsyncIterator[Any]:
    """The servicer behind the suite's own server; callers have no token."""
    load_or_make_key(keys)
    server = Server("127.0.0.1:0", verifier=TokenVerifier(keys / VERIFYING_FILE), grace_ms=200)
    server.add(
        pb_grpc.add_FactorServiceServicer_to_server, FactorServicer(registry, lambda: now_us)
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            yield pb_grpc.FactorServiceStub(channel)
        finally:
            await server.stop()


def answer(
    keys: Path,
    ask: Ask,
    registry: dict[str, Series] = SHIPPED,
    now_us: int = JUNE_2025_US,
) -> Any:
    async def run() -> Any:
        async with served(keys, registry, now_us) as stub:
            return await ask(stub)

    return asyncio.run(run())


def looked_up(keys: Path, series: str = GRID, as_of: str = "", **asked: Any) -> Any:
    request = pb.LookUpFactorRequest(series=series, **asked)
    if as_of:
        day = date.fromisoformat(as_of)
        request.as_of.CopyFrom(date_pb2.Date(year=day.year, month=day.month, day=day.day))
    return answer(keys, lambda stub: stub.LookUpFactor(request, timeout=10))


def refusal(keys: Path, series: str = GRID, as_of: str = "", **asked: Any) -> tuple[str, str]:
    """Reason and message of a look-up that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        looked_up(keys, series, as_of, **asked)
    return reason_of(caught.value), caught.value.details() or ""


@pytest.mark.parametrize(
    ("as_of", "value", "year"),
    [
        ("2025-06-01", "0.5366", 2022),
        ("2025-12-30", "0.5366", 2022),
        ("2026-01-01", "0.5306", 2023),
    ],
)
def test_the_newest_factor_known_on_a_day_is_found(
    tmp_path: Path, as_of: str, value: str, year: int
) -> None:
    found = looked_up(tmp_path, as_of=as_of).factor
    assert (found.value, found.unit, found.year) == (value, "kg/kWh", year)
    assert (found.series, found.gas_scope, found.status) == (GRID, "CO2", "reposted")
    assert "公告202" in found.source


def test_without_a_day_today_is_asked(tmp_path: Path) -> None:
    later = JUNE_2025_US + 214 * 86_400_000_000  # 2026-01-01
    request = pb.LookUpFactorRequest(series=GRID)
    now = answer(tmp_path, lambda stub: stub.LookUpFactor(request, timeout=10))
    then = answer(tmp_path, lambda stub: stub.LookUpFactor(request, timeout=10), now_us=later)
    assert (now.factor.value, then.factor.value) == ("0.5366", "0.5306")


def test_a_district_is_answered_by_its_province_and_told_so(tmp_path: Path) -> None:
    found = looked_up(tmp_path, as_of="2025-06-01", region_code="440305")
    assert (found.factor.region_code, found.factor.value) == ("440000", "0.4403")
    assert found.reason_en == (
        "2022 is the newest data year known on 2025-06-01; published on 2024-12-26; it is the "
        "value for 440000, because there is none for 440305 and 440300; data year 2023 was "
        "published later, on 2025-12-31."
    )
    assert found.reason_zh == (
        "截至2025-06-01已知的最新数据年份为2022年；发布于2024-12-26；取440000的数值，因为440305、440300没有数值；"
        "2023年数据发布较晚（2025-12-31）。"
    )


def test_where_no_province_has_a_value_the_nation_answers(tmp_path: Path) -> None:
    found = looked_up(tmp_path, as_of="2026-01-01", region_code="540100")
    assert (found.factor.region_code, found.factor.value) == ("", "0.5306")
    assert "because there is none for 540100 and 540000" in found.reason_en


def test_a_year_that_is_asked_for_is_given_with_its_reason(tmp_path: Path) -> None:
    found = looked_up(tmp_path, as_of="2026-01-01", region_code="440000", year=2022)
    assert (found.factor.value, found.factor.publish_date.year) == ("0.4403", 2024)
    assert found.reason_en.startswith("Data year 2022, as asked for; published on 2024-12-26")
    assert "later" not in found.reason_en


def test_a_prescribed_number_is_not_the_average(tmp_path: Path) -> None:
    shanghai = {"region_code": "310115", "as_of": "2026-01-01"}
    prescribed = looked_up(tmp_path, "factorSeries/grid-prescribed", **shanghai)
    assert prescribed.factor.value == "0.42"
    assert prescribed.reason_en.startswith("No document says its data year")
    assert looked_up(tmp_path, **shanghai).factor.value == "0.5737"


def test_a_kind_without_a_known_day_counts_as_always_known(tmp_path: Path) -> None:
    found = looked_up(tmp_path, "factorSeries/gwp-ar6", as_of="1990-01-01", key="ch4")
    assert found.factor.value == "27.9"
    assert not found.factor.HasField("publish_date")
    assert "counts as always known" in found.reason_en
    assert "视为一直已知" in found.reason_zh


def test_a_superseded_value_says_what_took_its_place(tmp_path: Path) -> None:
    text = FILES["grid-average-cn.toml"] + CORRECTION
    registry = load_registry({**FILES, "grid-average-cn.toml": text})
    asked = pb.LookUpFactorRequest(
        series=GRID, region_code="440000", as_of=date_pb2.Date(year=2025, month=2, day=28)
    )
    before = answer(tmp_path, lambda stub: stub.LookUpFactor(asked, timeout=10), registry)
    assert (before.factor.value, before.factor.superseded_by.value) == ("0.4403", "0.4500")
    assert before.factor.superseded_by.publish_date == date_pb2.Date(year=2025, month=3, day=1)
    assert "superseded on 2025-03-01 by 0.4500" in before.reason_en
    assert "已于2025-03-01被0.4500取代" in before.reason_zh
    asked.as_of.CopyFrom(date_pb2.Date(year=2025, month=3, day=1))
    after = answer(tmp_path, lambda stub: stub.LookUpFactor(asked, timeout=10), registry)
    assert after.factor.value == "0.4500"
    assert not after.factor.HasField("superseded_by")


def test_a_series_is_shown_with_every_value_superseded_ones_included(tmp_path: Path) -> None:
    text = FILES["grid-average-cn.toml"] + CORRECTION
    registry = load_registry({**FILES, "grid-average-cn.toml": text})
    request = pb.GetFactorSeriesRequest(name=GRID)
    shown = answer(tmp_path, lambda stub: stub.GetFactorSeries(request, timeout=10), registry)
    factors = [
        (f.value, f.HasField("superseded_by"))
        for f in shown.factor_series.factors
        if (f.region_code, f.year) == ("440000", 2022)
    ]
    assert factors == [("0.4403", True), ("0.4500", False)]
    assert len(shown.factor_series.factors) == len(SHIPPED["grid-average-cn"].values) + 1


def test_the_list_names_every_series_without_values(tmp_path: Path) -> None:
    request = pb.ListFactorSeriesRequest()
    listed = answer(tmp_path, lambda stub: stub.ListFactorSeries(request, timeout=10))
    assert [s.name for s in listed.factor_series] == [f"factorSeries/{n}" for n in sorted(SHIPPED)]
    assert not any(s.factors for s in listed.factor_series)
    assert all(s.title_zh and s.title_en and s.unit for s in listed.factor_series)


@pytest.mark.parametrize("name", ["factorSeries/grid-averge-cn", "grid-average-cn"])
def test_an_unknown_series_is_told_the_nearest(tmp_path: Path, name: str) -> None:
    reason, said = refusal(tmp_path, name)
    assert reason == "RESOURCE_NOT_FOUND"
    assert f"{name} does not exist; the nearest is {GRID}" in said
    request = pb.GetFactorSeriesRequest(name=name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer(tmp_path, lambda stub: stub.GetFactorSeries(request, timeout=10))
    assert reason_of(caught.value) == "RESOURCE_NOT_FOUND"


NOT_THERE: dict[str, tuple[dict[str, Any], str]] = {
    "before the first publication": (
        {"as_of": "2023-02-14"},
        "a value of factorSeries/grid-average-cn everywhere as of 2023-02-14 does not exist; there "
        "is data year 2020 from 2023-02-15 on",
    ),
    "a year that nobody published": ({"year": 2019}, "and data year 2019 does not exist"),
    "a year that was not published yet": (
        {"as_of": "2025-12-30", "year": 2023, "region_code": "440305"},
        "in 440305 as of 2025-12-30 and data year 2023 does not exist",
    ),
    "a region that the series does not cover": (
        {"series": "factorSeries/grid-prescribed", "region_code": "440300"},
        "the series has values for 310000",
    ),
}


@pytest.mark.parametrize("case", NOT_THERE)
def test_where_nothing_was_known_the_answer_says_what_there_is(tmp_path: Path, case: str) -> None:
    asked, said = NOT_THERE[case]
    reason, message = refusal(tmp_path, **asked)
    assert reason == "RESOURCE_NOT_FOUND"
    assert said in message


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "region of five digits": ({"region_code": "44030"}, "write six digits"),
    "region that is no area": ({"region_code": "west-grid"}, "south-grid"),
    "area in a series without areas": (
        {
            "series": "factorSeries/car-defra",
            "key": "petrol-car-small",
            "region_code": "south-grid",
        },
        "nothing for everywhere",
    ),
    "a kind that the series lacks": (
        {"series": "factorSeries/fuel-cn-litre", "key": "kerosene"},
        "fuel-cn-litre has diesel, petrol",
    ),
    "no kind where there are several": (
        {"series": "factorSeries/fuel-cn-litre"},
        "fuel-cn-litre has diesel, petrol",
    ),
    "a kind where there is one": ({"key": "petrol"}, "leave it empty"),
    "a year below zero": ({"year": -1}, "year is -1"),
    "a year after every year": ({"year": 2101}, "up to 2100"),
    "no series": ({"series": ""}, "series is not set"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_question_that_cannot_have_an_answer_says_what_to_write(
    tmp_path: Path, case: str
) -> None:
    asked, said = WRONG[case]
    reason, message = refusal(tmp_path, **asked)
    assert reason == "FIELD_INVALID"
    assert said in message


def test_a_day_that_is_none_is_refused(tmp_path: Path) -> None:
    request = pb.LookUpFactorRequest(series=GRID, as_of=date_pb2.Date(year=2025, month=2, day=29))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer(tmp_path, lambda stub: stub.LookUpFactor(request, timeout=10))
    assert reason_of(caught.value) == "FIELD_INVALID"
    assert "as_of is 2025-2-29" in (caught.value.details() or "")
