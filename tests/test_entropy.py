"""Entropy coding: exact counts, round trips, real size against the likelihood, and hostile substreams."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitcodec.entropy import (
    CDF_BITS,
    Z_MAX,
    SymbolTables,
    build_gaussian_tables,
    decode_hyper,
    decode_symbols,
    encode_hyper,
    encode_symbols,
    sigma_crc,
    sigma_levels,
)
from splitcodec.entropy.rans import END_STATE, decode_groups, encode_groups, table_model
from splitcodec.errors import CorruptBitstream, InvalidTables, SymbolOutOfRange

TOTAL = 1 << CDF_BITS
TABLES = build_gaussian_tables()
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def support(tables: SymbolTables, level: int) -> np.ndarray:
    centre, limit = tables.counts.shape[1] // 2, int(tables.limit[level])
    return tables.counts[level, centre - limit : centre + limit + 1]


def push(state: int, symbol: int, counts: list[int]) -> int:
    """One rANS step, as docs/bitstream.md says, for a state that needs no flush."""
    count = counts[symbol]
    assert state >> 40 < count
    return (state // count << CDF_BITS) + state % count + sum(counts[:symbol])


def assert_counts_are_used_exactly(counts: np.ndarray) -> None:
    """The state after two symbols shows the first one's count and the sum before it: all the coder knows."""
    model = table_model(counts)
    whole = counts.tolist()
    last = len(whole) - 1
    for symbol in range(len(whole)):
        data = encode_groups(np.array([symbol, last], dtype=np.int32), [(model, 2)])
        assert int.from_bytes(data, "little") == push(push(END_STATE, last, whole), symbol, whole)


@pytest.mark.parametrize("level", range(64))
def test_coder_uses_exactly_the_shipped_counts(level):
    assert_counts_are_used_exactly(support(TABLES, level))


@st.composite
def rows(draw: st.DrawFn) -> np.ndarray:
    """A table of 2 to 70 counts, with counts of 1 and huge counts in any place."""
    weights = draw(st.lists(st.sampled_from([0.0, 1e-9, 0.01, 1.0, 1e6]), min_size=2, max_size=70))
    share = np.array(weights) / max(sum(weights), 1.0)
    counts = 1 + np.floor(share * (TOTAL - len(weights))).astype(np.int64)
    counts[draw(st.integers(0, len(weights) - 1))] += TOTAL - counts.sum()
    return counts.astype(np.int32)


@quick
@given(rows())
def test_coder_uses_exactly_any_counts(counts):
    assert_counts_are_used_exactly(counts)


def sample(shape: tuple[int, ...], top: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sigma indexes up to `top`, and Gaussian symbols of their sigmas, clipped as the quantizer clips."""
    rng = np.random.default_rng(seed)
    index = np.clip(np.round(rng.gamma(2.0, top / 6, shape)), 0, top).astype(np.uint8)
    limit = TABLES.limit[index]
    symbols = np.clip(np.round(rng.normal(size=shape) * sigma_levels()[index]), -limit, limit)
    return symbols.astype(np.int32), index


@pytest.mark.parametrize(
    ("shape", "top"), [((96, 26, 26), 63), ((96, 26, 26), 24), ((96, 2, 2), 30), ((1, 1, 1), 5)]
)
def test_real_bytes_are_within_one_percent_and_32_bytes_of_the_likelihood(shape, top):
    symbols, index = sample(shape, top, seed=3)
    scale = sigma_levels()[index] * math.sqrt(2)
    erf = np.vectorize(math.erf)
    likelihood = (erf((symbols + 0.5) / scale) - erf((symbols - 0.5) / scale)) / 2
    likelihood_bytes = -np.log2(np.maximum(likelihood, 2.0**-CDF_BITS)).sum() / 8
    num_bytes = len(encode_symbols(symbols, index, TABLES))
    assert num_bytes <= 1.01 * likelihood_bytes + 32
    assert num_bytes >= 0.99 * likelihood_bytes - 32


@quick
@given(st.integers(0, 2**32), st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 7)))
def test_symbols_round_trip(seed, shape):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 64, shape).astype(np.uint8)
    limit = TABLES.limit[index]
    symbols = rng.integers(-limit, limit + 1).astype(np.int32)
    decoded = decode_symbols(encode_symbols(symbols, index, TABLES), index, TABLES)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)


def z_counts(channels: int) -> np.ndarray:
    counts = np.maximum(1, (1 << 22) >> np.abs(np.arange(-Z_MAX, Z_MAX + 1))) + np.zeros(
        (channels, 1), dtype=np.int64
    )
    counts[:, Z_MAX] += TOTAL - counts.sum(axis=1)
    return counts.astype(np.int32)


@quick
@given(st.integers(0, 2**32), st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 7)))
def test_hyper_round_trip(seed, shape):
    z = np.random.default_rng(seed).integers(-Z_MAX, Z_MAX + 1, shape).astype(np.int32)
    counts = z_counts(shape[0])
    decoded = decode_hyper(encode_hyper(z, counts), shape, counts)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, z)


def test_real_hyper_bytes_are_close_to_the_likelihood():
    counts = z_counts(32)
    rng = np.random.default_rng(5)
    z = np.clip(rng.geometric(0.5, (32, 7, 7)) - rng.geometric(0.5, (32, 7, 7)), -Z_MAX, Z_MAX).astype(
        np.int32
    )
    likelihood_bytes = (CDF_BITS - np.log2(counts[0][z + Z_MAX])).sum() / 8
    assert abs(len(encode_hyper(z, counts)) - likelihood_bytes) <= 0.01 * likelihood_bytes + 32


@pytest.mark.parametrize("value", [-9, 9, 2**31 - 1, -(2**31)])
def test_symbols_beyond_their_limit_are_refused(value):
    index = np.zeros((1, 2, 2), dtype=np.uint8)
    symbols = np.zeros((1, 2, 2), dtype=np.int32)
    symbols[0, 1, 0] = value
    with pytest.raises(SymbolOutOfRange, match=rf"{value} is beyond .* \+-8"):
        encode_symbols(symbols, index, TABLES)


@pytest.mark.parametrize("value", [-32, 32, -(2**31)])
def test_hyper_symbols_beyond_their_limit_are_refused(value):
    z = np.full((1, 1, 1), value, dtype=np.int32)
    with pytest.raises(SymbolOutOfRange, match=str(value)):
        encode_hyper(z, z_counts(1))


def test_sigma_indexes_without_a_table_are_refused():
    index = np.array([[[64]]], dtype=np.uint8)
    with pytest.raises(SymbolOutOfRange, match="64"):
        encode_symbols(np.zeros((1, 1, 1), dtype=np.int32), index, TABLES)
    with pytest.raises(SymbolOutOfRange, match="64"):
        decode_symbols(b"", index, TABLES)


def test_arrays_of_another_type_or_shape_are_refused():
    symbols, index = sample((2, 3, 3), 20, seed=1)
    for bad_symbols, bad_index in [
        (symbols.astype(np.float32), index),
        (symbols, index.astype(np.int32)),
        (symbols[:1], index),
    ]:
        with pytest.raises(SymbolOutOfRange):
            encode_symbols(bad_symbols, bad_index, TABLES)
    with pytest.raises(SymbolOutOfRange):
        decode_symbols(b"", index.astype(np.int64), TABLES)
    with pytest.raises(SymbolOutOfRange):
        encode_hyper(symbols.astype(np.float32), z_counts(2))


def test_hyper_tables_of_another_shape_are_refused():
    z = np.zeros((2, 1, 1), dtype=np.int32)
    with pytest.raises(InvalidTables):
        encode_hyper(z, z_counts(3))
    with pytest.raises(InvalidTables):
        decode_hyper(b"", (2, 1, 1), z_counts(2)[:, 1:])


def test_hyper_tables_that_are_no_distributions_are_refused():
    with pytest.raises(InvalidTables, match="channel 1"):
        encode_hyper(np.zeros((2, 1, 1), dtype=np.int32), z_counts(2) + np.array([[0], [1]], dtype=np.int32))


def test_truncated_or_extended_substreams_are_refused():
    symbols, index = sample((4, 6, 6), 30, seed=2)
    data = encode_symbols(symbols, index, TABLES)
    for length in range(len(data)):
        with pytest.raises(CorruptBitstream):
            decode_symbols(data[:length], index, TABLES)
    for tail in (b"\0", b"\1", b"\0\0\0\0", b"\0\0\0\1", b"\xff" * 64):
        with pytest.raises(CorruptBitstream):
            decode_symbols(data + tail, index, TABLES)


@quick
@given(st.binary(max_size=40), st.integers(0, 40), st.sampled_from([0, 20, 40, 63]))
def test_any_bytes_are_refused_or_are_the_one_substream_of_their_symbols(data, size, level):
    index = np.full(size, level, dtype=np.uint8)
    try:
        symbols = decode_symbols(data, index, TABLES)
    except CorruptBitstream:
        return
    assert encode_symbols(symbols, index, TABLES) == data


def test_only_states_an_encoder_reaches_are_taken():
    """A substream of one symbol is one of as many states as there are symbols; its neighbours are refused."""
    counts = support(TABLES, 30)
    legal = {push(END_STATE, symbol, counts.tolist()): symbol for symbol in range(len(counts))}
    groups = [(table_model(counts), 1)]
    for state in sorted({edge + step for edge in legal for step in (-1, 0, 1)}):
        data = state.to_bytes(8, "little").rstrip(b"\0")
        if state in legal:
            assert decode_groups(data, groups).tolist() == [legal[state]]
        else:
            with pytest.raises(CorruptBitstream):
                decode_groups(data, groups)


@pytest.mark.parametrize("filler", [b"\xff", b"\x01", b"\x80"])
def test_huge_substreams_cost_no_more_than_their_bytes(filler):
    data = filler * (4 << 20)
    index = np.full((2, 3, 3), 40, dtype=np.uint8)
    tracemalloc.start()
    with pytest.raises(CorruptBitstream):
        decode_symbols(data, index, TABLES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data)


def test_short_substreams_never_read_beyond_their_end():
    index = np.full((96, 26, 26), 40, dtype=np.uint8)
    with pytest.raises(CorruptBitstream, match="symbol 64896"):
        decode_symbols(b"\xff\xff\xff", index, TABLES)


def test_sigma_crc_is_zlibs_crc_of_the_bytes_in_c_order():
    assert sigma_crc(np.frombuffer(b"123456789", dtype=np.uint8)) == 0xCBF43926
    index = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    turned = np.asfortranarray(index)
    assert sigma_crc(turned) == sigma_crc(index)
    assert sigma_crc(index[:, :2]) == sigma_crc(index[:, :2].copy())
    assert sigma_crc(index[::-1]) != sigma_crc(index)
