"""Steps over columns of whole numbers, int64 or Python's own, with as few passes as may be.

A step may overwrite a column that an earlier step made (it is fresh), never one that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
Columns = Mapping[str, Column]
Run = Callable[[Columns], Column]
Operand = Callable[[Columns], Any]
"""Gives a column, or one whole number that stands for a column."""


def multiplied(run: Run, times: int, fresh: bool) -> Run:
    """What `run` gives, times a whole number."""
    if not fresh:
        return lambda columns: run(columns) * times

    def multiply_in_place(columns: Columns) -> Column:
        column = run(columns)
        return np.multiply(column, times, out=column)

    return multiply_in_place


def joined(ufunc: Any, left: Operand, right: Operand, fresh_left: bool, fresh_right: bool) -> Run:
    """`ufunc` of two operands, at least one of them a column."""

    def join(columns: Columns) -> Column:
        one, other = left(columns), right(columns)
        out = one if fresh_left else other if fresh_right else None
        column: Column = ufunc(one, other, out=out)
        return column

    return join


def where(test: Column, yes: Any, no: Any, *, wide: bool) -> Column:
    """`yes` where `test` holds, else `no`; `wide` where later steps pass 64 bits."""
    out: Column = np.empty(test.shape, object if wide else np.int64)
    out[...] = no
    np.copyto(out, yes, where=test)
    return out
