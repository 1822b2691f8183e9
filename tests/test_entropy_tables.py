"""Count tables: what is a table, what is refused, and the Gaussian tables that ship."""

import hashlib
import io
import math
import zipfile

import numpy as np
import pytest

from splitcodec.entropy import CDF_BITS, Z_MAX, SymbolTables, ZTables, build_gaussian_tables, sigma_levels
from splitcodec.errors import InvalidTables, RateOutOfRange

TOTAL = 1 << CDF_BITS


@pytest.fixture(scope="module")
def tables() -> SymbolTables:
    return build_gaussian_tables()


def small(limit=(1, 2), counts=((0, 1, TOTAL - 2, 1, 0), (5, 5, TOTAL - 20, 5, 5))) -> SymbolTables:
    return SymbolTables(limit=np.array(limit, dtype=np.int32), counts=np.array(counts, dtype=np.int32))


def z_counts(points: int, channels: int) -> np.ndarray:
    counts = np.full((points, channels, 2 * Z_MAX + 1), 7, dtype=np.int32)
    counts[:, :, Z_MAX] = TOTAL - 2 * Z_MAX * 7
    return counts


def test_sigma_levels_are_log_spaced():
    sigmas = sigma_levels()
    assert sigmas[0] == pytest.approx(0.11)
    assert sigmas[-1] == pytest.approx(64.0)
    np.testing.assert_allclose(np.diff(np.log(sigmas)), math.log(64 / 0.11) / 63)


def test_gaussian_rows_are_distributions_over_their_support(tables):
    centre = tables.counts.shape[1] // 2
    for limit, row in zip(tables.limit, tables.counts.astype(np.int64), strict=True):
        support = row[centre - limit : centre + limit + 1]
        assert support.sum() == TOTAL == row.sum()
        assert support.min() >= 1
        np.testing.assert_array_equal(row, row[::-1])


def test_gaussian_limits_follow_sigma(tables):
    expected = [min(255, max(8, math.ceil(8 * sigma))) for sigma in sigma_levels()]
    assert tables.limit.tolist() == expected


def test_gaussian_rows_cost_no_more_than_their_gaussian(tables):
    """Coding sigma's own symbols with its row costs at most 0.05 % or 0.0005 bit above sigma's entropy."""
    centre = tables.counts.shape[1] // 2
    for sigma, limit, row in zip(sigma_levels(), tables.limit, tables.counts, strict=True):
        cuts = [0.5 + math.erf((s - 0.5) / (sigma * math.sqrt(2))) / 2 for s in range(-limit + 1, limit + 1)]
        p = np.diff([0.0, *cuts, 1.0])
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        cost = (p * (CDF_BITS - np.log2(row[centre - limit : centre + limit + 1]))).sum()
        assert -1e-9 < cost - entropy < max(5e-4, 5e-4 * entropy)


def test_shipped_gaussian_tables_never_change(tables, golden):
    digest = hashlib.sha256(tables.limit.astype("<i4").tobytes() + tables.counts.astype("<i4").tobytes())
    line = f"{digest.hexdigest()}  y_limit and y_counts as little-endian int32\n".encode()
    assert line == golden("gaussian_tables_v1.sha256", line)


def test_npz_round_trip_is_exact_and_repeatable(tables):
    data = tables.to_npz()
    back = SymbolTables.from_npz(data)
    np.testing.assert_array_equal(back.limit, tables.limit)
    np.testing.assert_array_equal(back.counts, tables.counts)
    assert back.to_npz() == data


def test_tables_are_frozen_copies(tables):
    limit = np.array([1], dtype=np.int32)
    held = SymbolTables(limit=limit, counts=np.array([[1, TOTAL - 2, 1]], dtype=np.int32))
    limit[0] = 9
    assert held.limit[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        held.counts[0, 0] = 2


@pytest.mark.parametrize(
    ("limit", "counts", "match"),
    [
        ((1,), [[1, TOTAL - 1, 1]], "sum"),
        ((1,), [[0, TOTAL - 1, 1]], "smallest 0"),
        ((1,), [[-1, TOTAL, 1]], "smallest -1"),
        ((1, 2), [[1, 1, TOTAL - 3, 1, 0], [1, 1, TOTAL - 4, 1, 1]], "sum"),
        ((1, 2), [[1, 1, TOTAL - 2, 1, -1], [1, 1, TOTAL - 4, 1, 1]], "outside its support"),
        ((0,), [[TOTAL]], "limits must be"),
        ((256,), [[1] * 513], "limits must be"),
        ((), np.zeros((0, 3)), "0 levels"),
        ((1,), [[1, TOTAL - 4, 1, 1, 1]], "shape"),
        ((1, 1), [[1, TOTAL - 2, 1]], "shape"),
    ],
)
def test_rows_that_are_no_distribution_are_refused(limit, counts, match):
    with pytest.raises(InvalidTables, match=match):
        small(limit, counts)


def test_wrong_dtype_is_refused():
    with pytest.raises(InvalidTables, match="float64"):
        SymbolTables(limit=np.array([1], dtype=np.int32), counts=np.ones((1, 3)))


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npz_with_header(header: bytes, body: bytes) -> bytes:
    """A tables file whose y_limit has a hand-made .npy header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "y_limit.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body
        )
        archive.writestr("y_counts.npy", b"")
    return buffer.getvalue()


def giant(shape: str) -> bytes:
    return npz_with_header(
        f"{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}\n".encode(), b"1234"
    )


INTS = np.array([[1, TOTAL - 2, 1]], dtype=np.int32)
ONE = np.array([1], dtype=np.int32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x05\x06",
        small().to_npz()[:-30],
        small().to_npz()[40:],
        npz(y_limit=ONE),
        npz(y_limit=ONE, y_counts=INTS, extra=ONE),
        npz(y_limit=ONE, y_counts=INTS.astype(np.int64)),
        npz(y_limit=ONE, y_counts=np.asfortranarray(np.ones((4, 3), dtype=np.int32))),
        npz(y_limit=np.array([1, None]), y_counts=INTS),
        npz(y_limit=ONE, y_counts=np.zeros((1000, 511), dtype=np.int32)),
        giant("(999999999,)"),
        giant("(999999999, 999999999)"),
        giant("(-1,)"),
        giant("(99999999999999999999,)"),
    ],
)
def test_files_that_are_no_tables_are_refused(data):
    with pytest.raises(InvalidTables):
        SymbolTables.from_npz(data)


def test_damaged_tables_file_is_refused_or_equal():
    good = small().to_npz()
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 0x11
        try:
            back = SymbolTables.from_npz(bytes(data))
        except InvalidTables:
            continue
        np.testing.assert_array_equal(back.counts, small().counts)


@pytest.mark.parametrize(("rate_fixed", "point"), [(0, 0), (127, 0), (128, 1), (383, 1), (384, 2), (768, 3)])
def test_z_tables_of_a_rate_are_those_of_the_nearest_point(rate_fixed, point):
    counts = z_counts(4, 3)
    counts[:, :, 0] += np.arange(4, dtype=np.int32)[:, None]
    counts[:, :, Z_MAX] -= np.arange(4, dtype=np.int32)[:, None]
    np.testing.assert_array_equal(ZTables(counts).at_rate(rate_fixed), counts[point])


@pytest.mark.parametrize("rate_fixed", [-1, 769, 65535])
def test_rates_without_z_tables_are_refused(rate_fixed):
    with pytest.raises(RateOutOfRange, match=r"0\.\.3"):
        ZTables(z_counts(4, 3)).at_rate(rate_fixed)


@pytest.mark.parametrize(
    "counts",
    [
        z_counts(4, 3).astype(np.int64),
        z_counts(4, 3)[0],
        z_counts(4, 3)[:, :, 1:],
        z_counts(4, 3) + np.int32(1),
        z_counts(0, 3),
        z_counts(4, 0),
    ],
)
def test_z_tables_that_are_no_distributions_are_refused(counts):
    with pytest.raises(InvalidTables):
        ZTables(counts)
