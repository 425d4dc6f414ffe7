"""Random methodology files: every part of the format in mixtures that nobody would write.

A file may be refused, for a branch that is always taken or a result past 64 bits; what loads must
be evaluated as the independent reader evaluates it.
"""

from __future__ import annotations

import random
import re
from datetime import date
from fractions import Fraction
from itertools import product

from tests.calculation.domain.oracle import Act, oracles
from tests.calculation.domain.oracle_factors import day_of

NAME = "random"
SCENE = "scenes/random"
BEGINS = date(2020, 1, 1)
HEAD = f"""id = "{NAME}"
title_zh = "随机"
title_en = "random"
gas_scope = "CO2"
asset = "@asset"

[document]
title = "random"
publisher = "the tests"
date = "2026"
source = "invented numbers"

[[version]]
id = "1"
effective_date = {BEGINS}
rounding = "@rounding"
@below
[[version.rule]]
scenes = ["{SCENE}"]
formula = "@formula"
@credit
"""
TOLD = 'source = "invented"\nstatus = "operator"\n'
NAMED = 'label_zh = "名"\nlabel_en = "name"\n'
UNITS = {"mass": ["g/km", "mg/metre", "kg/km"], "length": ["metre", "km"], "number": ["1"]}
REGIONS = ["", "", "440000", "440300", "440305", "510000", "310101"]
DAYS = ["2019-01-01", "2026-03-25", "2026-04-01", "2026-04-20", "2027-01-01"]
AMOUNTS = [0, 1, 2, 5, 20, 100, 5_000, 10**6, 10**9, 2**40]


def random_file(seed: int) -> str:
    """The text of a file with one rule, its case included."""
    rule = _Rule(random.Random(seed))
    text = rule.text()
    measures = {name: low for name, (low, _) in rule.measures.items()}
    words = {name: values[0] for name, values in rule.labels.items() if name in rule.used}
    (oracle,) = oracles(text)
    act = Act(1, day_of(BEGINS), measures, labels=words)
    told = ", ".join(f'{name} = "{word}"' for name, word in words.items())
    case = '[[version.rule.case]]\nid = "lowest"\nsource = "the oracle"\n'
    case += f"measures = {{ {', '.join(f'{n} = {low}' for n, low in measures.items())} }}\n"
    case += f"labels = {{ {told} }}\n" if told else ""
    return f"{text}{case}expected_mg = {oracle.credit(act).credited}\n"


class _Rule:
    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.used: set[str] = set()
        self.uncertain = 0
        names = ["x_metre", "y_metre", "z_metre"][: draw.randint(1, 3)]
        self.measures = {name: self._range() for name in names}
        self.labels = {"fuel": ["petrol", "diesel", "gas"][: draw.randint(1, 3)]}
        if self._maybe(0.5):
            self.labels["size"] = ["small", "large"]
        self.factors: dict[str, str] = {}
        self.kinds: dict[str, list[str]] = {"mass": [], "length": [], "number": []}
        self.constants: list[str] = []
        for number in range(draw.randint(1, 5)):
            self._factor(f"f{number}", "mass" if number == 0 or self._maybe(0.4) else
                         draw.choice(["length", "number"]))  # fmt: skip
        self.past = [name for name, (low, _) in self.measures.items() if low >= 0]
        self.kinds["length"] += names + (["past_metre"] if self.past and self._maybe(0.5) else [])

    def text(self) -> str:
        draw, emission = self.draw, self._maybe(0.25)
        filled = {
            "@asset": "emission" if emission else "reduction",
            "@rounding": "ceiling" if emission else "floor",
            "@below": 'below_zero = "counts"\n' if self._maybe(0.4) else "",
            "@formula": self._mass(draw.randint(1, 4)),
            "@credit": 'credit = "low"\n' if self._maybe(0.4) else "",
        }
        conditions = "".join(
            f'[[version.rule.condition]]\nformula = "{self._test(1)}"\n{TOLD}{NAMED}'
            for _ in range(draw.choice([0, 0, 0, 1, 2]))
        )
        self.used = set(re.findall(r"[a-z]\w*", filled["@formula"] + conditions))
        tail = conditions + self._caps() + self._grades() + self._history()
        tail += "".join(text for key, text in self.factors.items() if key in self.used)
        self.used |= {name for name in self.labels if f'"{name}"' in tail}
        head = HEAD
        for mark, value in filled.items():
            head = head.replace(mark, value)
        return head + self._measures() + self._labels() + tail

    # --- numbers

    def _maybe(self, chance: float) -> bool:
        return self.draw.random() < chance

    def _range(self) -> tuple[int, int]:
        low = self.draw.choice([0, 0, 0, 1, -5, -1_000, 7])
        return low, self.draw.choice([9, 50, 1_000, 100_000, 2**31, 10**12, 2**53])

    def _decimal(self, sign: bool = True) -> str:
        text = str(self.draw.choice([0, 1, 2, 7, 33, 1_000, 10 ** self.draw.randint(0, 9)]))
        if self._maybe(0.6):
            text += f".{self.draw.randint(0, 10 ** self.draw.choice([1, 2, 3, 6, 9, 15]))}"
        return f"-{text}" if sign and self._maybe(0.15) else text

    def _ends(self, at_most: int) -> str:
        if self.uncertain > at_most or self._maybe(0.65):
            return f'value = "{self._decimal()}"\n'
        self.uncertain += 1
        low, value, high = sorted((self._decimal() for _ in range(3)), key=Fraction)
        return f'value = "{value}"\nlow = "{low}"\nhigh = "{high}"\n'

    # --- parts of the file

    def _factor(self, key: str, kind: str) -> None:
        text = f'[[version.rule.factor]]\nkey = "{key}"\n{NAMED}'
        text += f'unit = "{self.draw.choice(UNITS[kind])}"\n'
        self.kinds[kind].append(key)
        if self._maybe(0.5):
            # Of constants that a formula may divide by, none is uncertain: its ends could be 0.
            value = f'value = "{self._decimal()}"\n' if kind == "number" else self._ends(2)
            self.factors[key] = text + value + TOLD
            self.constants += [key] if kind == "number" else []
            return
        by = [name for name in (*self.labels, "region", "date") if self._maybe(0.5)] or ["region"]
        self.draw.shuffle(by)
        text += f"by = [{', '.join(f'{chr(34)}{name}{chr(34)}' for name in by)}]\n"
        own, seen, most = [name for name in by if name in self.labels], set(), self.uncertain
        for words in product(*(self.labels[name] for name in own)):
            for _ in range(self.draw.randint(1, 4)):
                row = "".join(f'{n} = "{w}"\n' for n, w in zip(own, words, strict=True))
                row += f'region = "{self.draw.choice(REGIONS)}"\n' if "region" in by else ""
                row += f"from_date = {self.draw.choice(DAYS)}\n" if "date" in by else ""
                if row not in seen:
                    seen.add(row)
                    text += f"[[version.rule.factor.row]]\n{row}{self._ends(2)}{TOLD}"
        self.uncertain = min(self.uncertain, most + 1)
        self.factors[key] = text

    def _caps(self) -> str:
        text = ""
        for window in ("month", "act", "day"):
            if self._maybe(0.45):
                of = self.draw.choice(["count", "result", *self.past, *self.past])
                of = "result" if (window, of) == ("act", "count") else of
                text += f'[[version.rule.cap]]\nid = "a-{window}"\nwindow = "{window}"\n'
                text += f'of = "{of}"\namount = {self.draw.choice(AMOUNTS)}\n{TOLD}'
        return text

    def _grades(self) -> str:
        grades = self.draw.sample(["recorded", "shown", "declared"], self.draw.randint(1, 3))
        return "".join(
            f'[[version.rule.grade]]\ngrade = "{grade}"\n{TOLD}'
            f'share = "{self.draw.choice(["1", "0", "0.5", "0.333", "0.123456789"])}"\n'
            for grade in (grades if self._maybe(0.4) else [])
        )

    def _history(self) -> str:
        if "past_metre" not in self.used:
            return ""
        days = self.draw.randint(1, 9)
        return (
            f'[[version.rule.history]]\nname = "past_metre"\nof = "{self.draw.choice(self.past)}"\n'
            f"days = {days}\ndays_least = {self.draw.randint(1, days)}\n{TOLD}{NAMED}"
        )

    def _measures(self) -> str:
        return "".join(
            f'[[version.rule.measure]]\nname = "{name}"\nunit = "metre"\n'
            f"min = {low}\nmax = {high}\n{NAMED}"
            for name, (low, high) in self.measures.items()
        )

    def _labels(self) -> str:
        return "".join(
            f'[[version.rule.label]]\nname = "{name}"\n{NAMED}'
            f"values = [{', '.join(f'{chr(34)}{value}{chr(34)}' for value in values)}]\n"
            for name, values in self.labels.items()
            if name in self.used
        )

    # --- formulas

    def _number(self) -> str:
        chance = self.draw.random()
        if chance < 0.4 and self.kinds["number"]:
            return self.draw.choice(self.kinds["number"])
        if chance < 0.5:
            return f"({self._decimal(False)} if {self._test(0)} else {self._decimal(False)})"
        return self._decimal(False)

    def _length(self, depth: int) -> str:
        if depth <= 0 or self._maybe(0.4):
            return self.draw.choice(self.kinds["length"])
        one, other = self._length(depth - 1), self._length(depth - 1)
        return self.draw.choice(
            [
                f"({one} {self.draw.choice('+-')} {other})",
                f"{self.draw.choice(['min', 'max'])}({one}, {other})",
                f"max({one}, 0, {other})",
                f"({one} if {self._test(depth - 1)} else {other})",
                f"({one} * {self._number()} - {other})",
            ]
        )

    def _mass(self, depth: int) -> str:
        if depth <= 0 or self._maybe(0.3):
            return f"{self._length(depth - 1)} * {self.draw.choice(self.kinds['mass'])}"
        one, other = self._mass(depth - 1), self._mass(depth - 1)
        by = self.draw.choice(["3", "7.5", "0.001"])
        return self.draw.choice(
            [
                f"({one} {self.draw.choice('+-')} {other})",
                f"{self.draw.choice(['min', 'max'])}({one}, {other})",
                f"(-({one}) - {other} / {by})",
                f"({one} * {self._number()} + {other})",
                f"({one} if {self._test(depth - 1)} else {other})",
            ]
        )

    def _test(self, depth: int) -> str:
        part = self._length if self._maybe(0.6) else self._mass
        sign = self.draw.choice(["<", "<=", ">", ">=", "=="])
        return f"{part(depth - 1)} {sign} {part(depth - 1)}"
