"""Entropy coding: integer count tables and rANS. Numpy in, bytes out, and back; no network, no floats."""

from splitcodec.entropy.hyper import decode_hyper, encode_hyper
from splitcodec.entropy.mask import decode_mask, encode_mask
from splitcodec.entropy.rans import CDF_BITS
from splitcodec.entropy.symbols import bits_of, decode_symbols, encode_symbols, sigma_crc
from splitcodec.entropy.tables import (
    LIMIT_MAX,
    SIGMA_LEVELS,
    SIGMA_MAX,
    SIGMA_MIN,
    Z_MAX,
    SymbolTables,
    ZTables,
    build_gaussian_tables,
    sigma_levels,
)

__all__ = [
    "CDF_BITS",
    "LIMIT_MAX",
    "SIGMA_LEVELS",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "Z_MAX",
    "SymbolTables",
    "ZTables",
    "bits_of",
    "build_gaussian_tables",
    "decode_hyper",
    "decode_mask",
    "decode_symbols",
    "encode_hyper",
    "encode_mask",
    "encode_symbols",
    "sigma_crc",
    "sigma_levels",
]
