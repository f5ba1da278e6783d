"""CSV, TSV and the like: Polars where the text is plain, a tokenizer of our own where quotes or faults make it hard.

The fast way hands the file to Polars once counts of line feeds and separators show that every line can have the right
number of cells (Polars fills short lines with nulls, which must not pass unseen). Whatever the fast way cannot vouch
for, such as a quote, a value that does not parse or a lone carriage return, goes the careful way, which cuts the text
into cells itself, and knows line and column of everything that is wrong.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from intarsia.config.schema.data import DataConfig, FieldType
from intarsia.core.errors import DataError
from intarsia.data.reading.convert import RULES, convert
from intarsia.data.reading.fields import DTYPES, Layout, lay_out
from intarsia.data.reading.report import LINE_LENGTH, MAX_EXAMPLES, BadRow, BadRows, Part, quote
from intarsia.data.reading.text import Text, blocks, guess_separator, is_blank, is_utf8, open_text, survey
from intarsia.data.reading.tokens import CR, LF, Block, Flags, Positions

_OK, _STRAY_QUOTE, _BARE_RETURN, _WIDTH, _ENCODING = range(5)


def read_delimited(
    path: Path, data_config: DataConfig, columns: Collection[str] | None, bad: BadRows
) -> tuple[pl.DataFrame, Part]:
    """The needed columns of one text file; columns without a declared type stay text.

    Args:
        columns: Names that are needed. Default: all declared ones, or all of the header where none is declared.
        bad: Takes the rows that cannot be read.

    Raises:
        DataError: The file is not what `data_config` says, or a row is bad and bad rows are not skipped.
    """
    text = open_text(path, data_config)
    first, width = _first_record(text)
    header = first if data_config.with_header else None
    body = width if data_config.with_header else 0
    try:
        layout = lay_out(data_config, columns, header, len(first), text.file)
    except DataError as error:
        hint = guess_separator(text, len(data_config.input_fields)) if len(first) == 1 else ""
        if not hint:
            raise
        raise DataError(f"{error}{hint}") from error
    skipped_lines = int(np.count_nonzero(text.data[:body] == LF))
    if is_blank(text.data[body:]):
        raise DataError(f"{text.file}: the file must hold rows. It holds only a header: {quote(', '.join(first))}.")
    frame = _read_plain(text, layout, skipped_lines)
    if frame is not None:
        return frame, Part(text.file, frame.height, skipped_lines + 1)
    frame, places = _read_carefully(text, layout, body, skipped_lines, bad)
    return frame, Part(text.file, frame.height, skipped_lines + 1, places)


def _first_record(text: Text) -> tuple[list[str], int]:
    """Cells of the first row, and the byte after it."""
    for block, start, stray in blocks(text, 0, 1 << 16):
        if not len(block):
            continue
        record = block.pick(slice(0, 1))
        begin, stop = start + int(record.begins[0]), start + int(record.stops[0])
        line = int(np.count_nonzero(text.data[:begin] == LF)) + 1
        excerpt = text.excerpt(begin, stop)
        if stray and len(block) == 1:
            raise DataError(f"{BadRow(text.file, line, None, None, _fault_text(_STRAY_QUOTE), excerpt[:LINE_LENGTH])}")
        if not is_utf8(text.data[begin:stop]):
            raise DataError(f"{BadRow(text.file, line, None, None, _fault_text(_ENCODING), excerpt[:LINE_LENGTH])}")
        cells = [_cells(record, text, place)[0] or "" for place in range(int(record.widths[0]))]
        after = stop + int(stop < len(text.data) and text.data[stop] == CR)
        return [cell.strip() for cell in cells], min(after + 1, len(text.data))
    raise DataError(f"{text.file}: the file must hold rows. It is empty.")


def _read_plain(text: Text, layout: Layout, skipped_lines: int) -> pl.DataFrame | None:
    """The frame as Polars reads it, or None where that would not be certain to be right."""
    counts = survey(text)
    if counts.quotes or counts.bare_return or layout.width == 1:
        return None
    tail = text.data[-4096:].tobytes()
    ending = tail[len(tail.rstrip(b"\r\n")) :].count(b"\n")
    lines = counts.feeds - ending + 1
    if counts.separators != lines * (layout.width - 1) or not is_utf8(text.data):
        return None
    dtypes: dict[str, pl.DataType] = {f"{place}": pl.String() for place in range(layout.width)}
    for wanted in layout.wanted:
        if wanted.type not in (None, FieldType.BOOL):
            dtypes[f"{wanted.position}"] = DTYPES[wanted.type]
    try:
        found = pl.read_csv(
            text.path if text.path is not None else text.as_bytes(),
            has_header=False,
            schema=dtypes,
            columns=sorted({wanted.position for wanted in layout.wanted}),
            separator=chr(text.separator),
            quote_char=None,
            skip_lines=skipped_lines,
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None
    if found.height < lines - skipped_lines:
        return None
    found = found.head(lines - skipped_lines)
    columns = []
    for wanted in layout.wanted:
        column = found[f"{wanted.position}"].alias(wanted.name)
        if column.dtype.is_float() and not column.is_finite().all():
            return None
        if wanted.type is FieldType.BOOL:
            column, failed = convert(column, FieldType.BOOL)
            if failed is not None:
                return None
        columns.append(column)
    return pl.DataFrame(columns)


def _read_carefully(
    text: Text, layout: Layout, body: int, skipped_lines: int, bad: BadRows
) -> tuple[pl.DataFrame, Positions]:
    frames: list[pl.DataFrame] = []
    places: list[Positions] = []
    line = skipped_lines + 1
    for block, start, stray in blocks(text, body):
        frame, kept = _read_block(text, layout, block, start, line, stray, bad)
        frames.append(frame)
        places.append(block.lines[kept] + line)
        line += block.feeds
    empty = pl.DataFrame({w.name: pl.Series([], dtype=DTYPES[w.type or FieldType.STRING]) for w in layout.wanted})
    return pl.concat([empty, *frames]), np.concatenate(places)


def _read_block(
    text: Text, layout: Layout, block: Block, start: int, line: int, stray: bool, bad: BadRows
) -> tuple[pl.DataFrame, Flags]:
    """The good rows of a block, and which of its records they are."""
    faults = np.zeros(len(block), dtype=np.int8)
    faults[_undecodable(block)] = _ENCODING
    faults[block.widths != layout.width] = _WIDTH
    faults[block.bare_return] = _BARE_RETURN
    if stray:
        faults[-1] = _STRAY_QUOTE
    sound = block.pick(faults == _OK)
    columns: list[pl.Series] = []
    failed: list[tuple[int, Flags]] = []
    for which, wanted in enumerate(layout.wanted):
        column = _cells(sound, text, wanted.position).alias(wanted.name)
        if wanted.type is not None:
            column, wrong = convert(column, wanted.type)
            if wrong is not None:
                failed.append((which, wrong.to_numpy()))
        columns.append(column)
    unfit = np.zeros(len(sound), dtype=np.bool_)
    for _, wrong_rows in failed:
        unfit |= wrong_rows
    kept = faults == _OK
    kept[kept] = ~unfit
    bad_records = np.flatnonzero(~kept)
    rank = np.cumsum(faults == _OK) - 1
    for record in bad_records[:MAX_EXAMPLES]:
        excerpt = text.excerpt(start + int(block.begins[record]), start + int(block.stops[record]))[:LINE_LENGTH]
        place = line + int(block.lines[record])
        if faults[record] != _OK:
            reason = _fault_text(int(faults[record]), int(block.widths[record]), layout)
            if faults[record] == _WIDTH and block.widths[record] == 1:
                reason += guess_separator(text, layout.width)
            bad.add(BadRow(text.file, place, None, None, reason, excerpt))
            continue
        row = int(rank[record])
        wanted = next(layout.wanted[which] for which, wrong_rows in failed if wrong_rows[row])
        value = _cells(sound.pick(slice(row, row + 1)), text, wanted.position)[0]
        assert wanted.type is not None
        reason = f"{RULES[wanted.type]}. Received: {quote(value)}."
        bad.add(BadRow(text.file, place, wanted.name, value, reason, excerpt))
    bad.count += max(len(bad_records) - MAX_EXAMPLES, 0)
    frame = pl.DataFrame(columns)
    return (frame.filter(pl.Series(~unfit)) if unfit.any() else frame), kept


def _fault_text(fault: int, width: int = 0, layout: Layout | None = None) -> str:
    if fault == _WIDTH and layout is not None:
        return f"a row must have {layout.width} cells, as {layout.named_by} says. Received: {width}."
    return {
        _STRAY_QUOTE: "a double quote must open or close a whole cell, or be doubled inside one. One stands elsewhere, "
        "or is never closed. Where quotes are plain text, set data_config.input_type: CSVInputEx.",
        _BARE_RETURN: "a carriage return outside quotes must be followed by a line feed. One is not.",
        _ENCODING: "text must be UTF-8. The line holds other bytes (shown as \\x..).",
    }[fault]


def _cells(block: Block, text: Text, place: int) -> pl.Series:
    """(R,) text of one cell of each record; null where it is empty."""
    if not len(block):
        return pl.Series([], dtype=pl.String)
    at = block.first + place
    begin, stop = block.starts[at], block.ends[at]
    if block.quoted:
        enclosed = (stop > begin) & (block.data[np.minimum(begin, len(block.data) - 1)] == ord('"'))
        begin, stop = begin + enclosed, stop - enclosed
    # Cells and what lies between them, in turn, over the text as it is: no byte is copied before the wanted ones are.
    borders = np.empty(2 * len(begin), dtype=np.int64)
    borders[0::2], borders[1::2] = begin, stop
    strips = pa.LargeStringArray.from_buffers(len(borders) - 1, pa.py_buffer(borders), pa.py_buffer(block.data))
    found = pl.Series(pl.from_arrow(strips.take(pa.array(np.arange(0, len(borders) - 1, 2)))), dtype=pl.String)
    if block.quoted:
        found = found.str.replace_all('""', '"', literal=True)
        if text.spelled is not None:
            found = found.str.replace_all(chr(text.separator), text.spelled, literal=True)
    empty = begin == stop
    return found.set(pl.Series(empty), None) if empty.any() else found


def _undecodable(block: Block) -> list[int]:
    """Records that are not UTF-8. One step for each of them, none for the others."""
    if is_utf8(block.data[: block.consumed]):
        return []
    found: list[int] = []
    raw = memoryview(block.data.data)[: block.consumed]
    position = 0
    while True:
        try:
            codecs.utf_8_decode(raw[position:], "strict", True)
        except UnicodeDecodeError as error:
            record = int(np.searchsorted(block.stops, position + error.start, side="right"))
            found.append(record)
            if record + 1 >= len(block):
                return found
            position = int(block.begins[record + 1])
        else:
            return found
