"""Hashes of text, for whole columns at once.

The hash is XXH64 with seed 0 of the UTF-8 bytes; the row of a table is the hash modulo `hash_bucket_size`. It depends
on nothing but the text, so it is the same on every machine and in every version. EasyRec hashes with FarmHash
Fingerprint64: the same text falls into another bucket there, so tables cannot be carried over row by row.

Source: the specification "xxHash fast digest algorithm", section "XXH64 algorithm description", steps 1 to 7.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
# The four accumulators of long texts start with seed + P1 + P2, seed + P2, seed and seed - P1, modulo 2**64.
_STARTS = (np.uint64(0x60EA27EEADC0B5D6), _P2, np.uint64(0), np.uint64(0x61C8864E7A143579))

# Texts hashed at a time: their intermediate results stay in the processor's cache.
_CHUNK = 1 << 14


def hash_text(series: pl.Series) -> U64:
    """XXH64 of each value's text.

    Integers are hashed as their decimal text and booleans as `true` and `false`, so a column of integers has the same
    hashes whether it was read as numbers or as text. Floats have no one text: see `float_text`.

    Args:
        series: (N,) text, integers or booleans. Nulls are hashed as empty text.

    Raises:
        TypeError: The column is of another type.
    """
    if series.dtype != pl.String:
        if not (series.dtype.is_integer() or series.dtype in (pl.Boolean, pl.Categorical, pl.Enum)):
            raise TypeError(f"hash_text takes text, integers or booleans. Received: {series.dtype}.")
        series = series.cast(pl.String)
    if series.null_count():
        series = series.fill_null("")
    data, offsets = _buffers(series)
    out = np.empty(len(series), dtype=np.uint64)
    for start in range(0, len(series), _CHUNK):
        stop = min(start + _CHUNK, len(series))
        out[start:stop] = _hash_bytes(data, offsets[start:stop], np.diff(offsets[start : stop + 1]))
    return out


def hash_rows(parts: U64) -> U64:
    """XXH64 of the little-endian bytes of each row: one hash out of the hashes of several values.

    Args:
        parts: (N, K) hashes.
    """
    out = np.empty(len(parts), dtype=np.uint64)
    size = 8 * parts.shape[1]
    for start in range(0, len(parts), _CHUNK):
        chunk = np.ascontiguousarray(parts[start : start + _CHUNK], dtype="<u8")
        data = np.concatenate([chunk.reshape(-1).view(np.uint8), np.zeros(8, np.uint8)])
        starts = np.arange(len(chunk), dtype=np.int64) * size
        out[start : start + _CHUNK] = _hash_bytes(data, starts, np.full(len(chunk), size, dtype=np.int64))
    return out


def float_text(series: pl.Series, precision: int) -> pl.Series:
    """Decimal text with a fixed number of digits after the point, as C's `printf("%.*f")` writes it.

    Args:
        series: (N,) floats. Nulls stay null.
        precision: Digits after the point, 0 to 15.

    Raises:
        ValueError: The precision is out of range, or a value is not finite.
    """
    if not 0 <= precision <= 15:
        raise ValueError(f"`precision` must lie in 0 <= precision <= 15. Received: {precision}.")
    present = series.is_not_null().to_numpy()
    x = series.cast(pl.Float64).fill_null(0.0).to_numpy()
    if not np.isfinite(x).all():
        raise ValueError("Only finite floats have a decimal text. Received: nan or inf.")
    size = np.abs(x)
    scale = 10.0**precision
    small = size < 2.0**52 / scale
    scaled = np.where(small, size, 0.0) * scale
    # Rounding the product goes wrong only where it was itself rounded onto a tie: the exact error decides there.
    whole, rounded = np.floor(scaled), np.rint(scaled)
    tie = scaled - whole == 0.5
    if tie.any():
        error = _product_error(size[tie], scale, scaled[tie])
        rounded[tie] = np.where(error == 0, rounded[tie], whole[tie] + (error > 0))
    digits = pl.Series(rounded.astype(np.int64)).cast(pl.String)
    if precision:
        digits = digits.str.zfill(precision + 1)
        digits = digits.str.head(-precision) + "." + digits.str.tail(precision)
    text = pl.Series(np.signbit(x)).replace_strict({True: "-", False: ""}, return_dtype=pl.String) + digits
    if not small.all():
        huge = np.flatnonzero(~small)  # beyond 2**52 the fraction is zero, or nearly: few, and written one by one
        text = text.scatter(huge, [f"{value:.{precision}f}" for value in x[huge].tolist()])
    return text.set(pl.Series(~present), None).alias(series.name)


def _product_error(a: npt.NDArray[np.float64], b: float, product: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What rounding took from `a * b` (Dekker's product of numbers split into halves)."""
    splitter = 2.0**27 + 1
    a_high = splitter * a - (splitter * a - a)
    b_high = splitter * b - (splitter * b - b)
    a_low, b_low = a - a_high, b - b_high
    return np.asarray(((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)


def _buffers(series: pl.Series) -> tuple[npt.NDArray[np.uint8], I64]:
    """The bytes of all texts, followed by 8 zeros so that a lane may be read at any byte; and the texts' offsets."""
    array = series.rechunk().to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    array = array.cast(pa.large_string())
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0 or data_buffer is None:
        return np.zeros(8, dtype=np.uint8), np.zeros(len(array) + 1, dtype=np.int64)
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer, dtype=np.uint8)[offsets[0] : offsets[-1]]
    padded = np.zeros(len(data) + 8, dtype=np.uint8)
    padded[: len(data)] = data
    return padded, offsets - offsets[0]


def _hash_bytes(data: npt.NDArray[np.uint8], starts: I64, lengths: I64) -> U64:
    """Hashes of the texts at `starts`. Every loop runs over lanes of the longest text, never over texts."""
    lanes: U64 = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    state = np.full(len(starts), _P5, dtype=np.uint64)
    if (long := _where(lengths >= 32)) is not None:
        state[long] = _hash_stripes(lanes, starts[long], lengths[long])
    state += lengths.astype(np.uint64)
    position = starts + (lengths & ~31)
    rest = lengths & 31
    for end in (8, 16, 24):
        rows = _where(rest >= end)
        if rows is None:
            break
        mixed = state[rows] ^ _round(np.uint64(0), lanes[position[rows] + (end - 8)])
        state[rows] = _rotate(mixed, 27) * _P1 + _P4
    tail = lanes[starts + (lengths & ~7)]
    left = lengths & 7
    if (rows := _where(left >= 4)) is not None:
        mixed = state[rows] ^ ((tail[rows] & np.uint64(0xFFFFFFFF)) * _P1)
        state[rows] = _rotate(mixed, 23) * _P2 + _P3
        tail[rows] >>= np.uint64(32)
    for count in (1, 2, 3):
        rows = _where((left & 3) >= count)
        if rows is None:
            break
        mixed = state[rows] ^ ((tail[rows] & np.uint64(0xFF)) * _P5)
        state[rows] = _rotate(mixed, 11) * _P1
        tail[rows] >>= np.uint64(8)
    state ^= state >> np.uint64(33)
    state *= _P2
    state ^= state >> np.uint64(29)
    state *= _P3
    state ^= state >> np.uint64(32)
    return state


def _hash_stripes(lanes: U64, starts: I64, lengths: I64) -> U64:
    """The state after the whole 32-byte stripes of texts that have at least one."""
    sums = [np.full(len(starts), start, dtype=np.uint64) for start in _STARTS]
    begin = 0
    while (rows := _where(lengths >= begin + 32)) is not None:
        for k, total in enumerate(sums):
            total[rows] = _round(total[rows], lanes[starts[rows] + (begin + 8 * k)])
        begin += 32
    state = _rotate(sums[0], 1) + _rotate(sums[1], 7) + _rotate(sums[2], 12) + _rotate(sums[3], 18)
    for total in sums:
        state = (state ^ _round(np.uint64(0), total)) * _P1 + _P4
    return state


def _where(mask: npt.NDArray[np.bool_]) -> I64 | slice | None:
    """The rows of a mask: None if there are none, a slice if it is all."""
    count = int(np.count_nonzero(mask))
    if count == 0:
        return None
    return slice(None) if count == len(mask) else np.flatnonzero(mask)


def _round(state: U64 | np.uint64, lane: U64) -> U64:
    return _rotate(state + lane * _P2, 31) * _P1


def _rotate(x: U64, bits: int) -> U64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))
