"""Lines of a file that nobody vouches for: bounded in memory, numbered, decoded or refused."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from services.activity.feeds.acts import FIELD_INVALID, LIMIT_REACHED, RefusedLine
from services.activity.feeds.mapping import Layout, Limits

GZIP_MAGIC = b"\x1f\x8b"
DRAIN_BYTES = 65_536
WHOLE_FILE = "send the whole file again; lines before this one keep what became of them"

Line = tuple[int, str]


def read_lines(stream: BinaryIO, layout: Layout, limits: Limits) -> Iterator[Line | RefusedLine]:
    """Each line of `stream` (gzip or plain, told by its first bytes) as (number, text) or refused.

    The first line has number 1. Texts carry no line end. Memory holds one line of at most
    `limits.line_bytes_max` bytes. A refusal that ends the feed is the last item. Errors of the
    disk are raised as OSError.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else _buffered(stream)
    plain = buffered.peek(2)[:2] != GZIP_MAGIC
    source = buffered if plain else _buffered(gzip.GzipFile(fileobj=buffered))
    number = 0
    try:
        for number, raw in _raw_lines(source, limits):
            yield raw if isinstance(raw, RefusedLine) else _decode(number, raw, layout)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        cause = "is cut short" if isinstance(error, EOFError) else "is damaged"
        yield _ends(number + 1, FIELD_INVALID, f"the gzip file {cause} here", WHOLE_FILE)


def _buffered(stream: object) -> io.BufferedReader:
    return io.BufferedReader(cast(io.RawIOBase, stream), DRAIN_BYTES)


def _raw_lines(
    source: io.BufferedReader, limits: Limits
) -> Iterator[tuple[int, bytes | RefusedLine]]:
    number, read_bytes, limit = 0, 0, limits.line_bytes_max
    while raw := source.readline(limit + 1):
        number += 1
        if number > limits.lines_max:
            yield number, _over("lines_max", limits.lines_max, number)
            return
        size = len(raw)
        if size > limit:
            size += _drain(source, raw, limits.file_bytes_max - read_bytes)
        read_bytes += size
        if read_bytes > limits.file_bytes_max:
            yield number, _over("file_bytes_max", limits.file_bytes_max, number)
            return
        if size > limit:
            rule = f"a line may have {limit} bytes (line_bytes_max) and this one has {size}"
            way_out = "mend the line and send it again; a line end may be missing"
            yield number, RefusedLine(number, LIMIT_REACHED, "line", "", rule, way_out)
        else:
            yield number, raw


def _drain(source: io.BufferedReader, raw: bytes, bytes_max: int) -> int:
    """Skips the rest of a line, but not more than about `bytes_max`; returns its bytes."""
    skipped = 0
    while not raw.endswith(b"\n") and skipped <= bytes_max:
        raw = source.readline(DRAIN_BYTES)
        if not raw:
            break
        skipped += len(raw)
    return skipped


def _decode(number: int, raw: bytes, layout: Layout) -> Line | RefusedLine:
    if number == 1:
        raw = raw.removeprefix(codecs.BOM_UTF8)
    if not raw.endswith(b"\n") and layout.line_end_required:
        rule = "the last line has no line end, so the file may be cut in it"
        return _refuse_line(number, rule, "end the file with a line end and send the line again")
    if b"\0" in raw:
        rule = f"byte {raw.index(0) + 1} is NUL, which no text has"
        return _refuse_line(number, rule, "export the file as text and send the line again")
    try:
        return number, raw.decode(layout.encoding).rstrip("\r\n")
    except UnicodeDecodeError as error:
        # Only the place is told: the bytes may belong to a column that is never read.
        rule = f"byte {error.start + 1} is not {layout.encoding}"
    return _refuse_line(number, rule, f"save the file as {layout.encoding} and send it again")


def _refuse_line(number: int, rule: str, way_out: str) -> RefusedLine:
    return RefusedLine(number, FIELD_INVALID, "line", "", rule, way_out)


def _ends(number: int, reason: str, rule: str, way_out: str) -> RefusedLine:
    return RefusedLine(number, reason, "file", "", rule, way_out, ends_feed=True)


def _over(name: str, value: int, number: int) -> RefusedLine:
    way_out = "split the file and send the rest, from this line on, under its own header"
    return _ends(number, LIMIT_REACHED, f"a file may have {value} ({name})", way_out)
