"""Signatures over sets of files: Ed25519 keys, the signed statement, whom to trust, and no way back."""

from splitcodec.signing.envelope import Kind, Signer, Statement
from splitcodec.signing.keys import SigningKey, VerifyKey
from splitcodec.signing.trust import TrustStore
from splitcodec.signing.verify import check_digest, read_statement, sign_files, verify_files

__all__ = [
    "Kind",
    "Signer",
    "SigningKey",
    "Statement",
    "TrustStore",
    "VerifyKey",
    "check_digest",
    "read_statement",
    "sign_files",
    "verify_files",
]
