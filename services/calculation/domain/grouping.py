"""Acts grouped by (account, window), in record order, without a loop over acts.

The order is found by sorting one column of 64-bit keys: the upper bits are a hash of account
and window, the lower bits the act's own place, so one plain sort is a stable grouping. Two
pairs that meet in one hash are noticed, and then grouped the slow way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# Odd constants of multiplicative hashing: the golden ratio and a prime of xxHash.
_ACCOUNT_TIMES, _WINDOW_TIMES = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F


@dataclass(frozen=True)
class Groups:
    """`order` lists acts group by group; group g starts at `starts[g]` and has `lengths[g]`.

    `accounts` and `windows` name each group. `order` is None when every act is its own group,
    in the acts' own order.
    """

    order: NDArray[np.intp] | None
    starts: NDArray[np.intp]
    lengths: NDArray[np.intp]
    accounts: Ints
    windows: Ints


def group(accounts: Ints, windows: Ints) -> Groups:
    """Groups acts; both columns have one length of at least 1."""
    one_window = bool(windows[0] == windows[-1]) and bool((windows == windows[0]).all())
    order, begins = _hashed(accounts, windows, one_window)
    in_order = accounts[order]
    differ = in_order[1:] != in_order[:-1]
    if not one_window:
        windows_in_order = windows[order]
        differ |= windows_in_order[1:] != windows_in_order[:-1]
    if np.count_nonzero(differ) + 1 != len(begins):
        order, begins = _sorted(accounts, windows)
        in_order = accounts[order]
    if len(begins) == len(order):
        return Groups(None, begins, np.ones_like(begins), accounts, windows)
    lengths = np.empty_like(begins)
    np.subtract(begins[1:], begins[:-1], out=lengths[:-1])
    lengths[-1] = len(order) - begins[-1]
    names = windows[: len(begins)] if one_window else windows[order[begins]]
    return Groups(order, begins, lengths, in_order[begins], names)


def _hashed(
    accounts: Ints, windows: Ints, one_window: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    size = len(accounts)
    bits = size.bit_length()
    keys = accounts.view(np.uint64) * np.uint64(_ACCOUNT_TIMES)
    if not one_window:
        keys += windows.view(np.uint64) * np.uint64(_WINDOW_TIMES)
    keys >>= np.uint64(bits)
    keys <<= np.uint64(bits)
    keys |= np.arange(size, dtype=np.uint64)
    keys.sort()
    order = (keys & np.uint64((1 << bits) - 1)).view(np.int64)
    keys >>= np.uint64(bits)
    return order, _begins(keys[1:] != keys[:-1])


def _sorted(accounts: Ints, windows: Ints) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    order = np.lexsort((windows, accounts))
    one, other = accounts[order], windows[order]
    return order, _begins((one[1:] != one[:-1]) | (other[1:] != other[:-1]))


def _begins(differ: NDArray[np.bool_]) -> NDArray[np.intp]:
    flags = np.empty(len(differ) + 1, np.bool_)
    flags[0] = True
    flags[1:] = differ
    return np.flatnonzero(flags)


def months_of(days: Ints) -> Ints:
    """The month of each civil day since 1970-01-01, as year * 12 + month - 1."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) + 1970 * 12
