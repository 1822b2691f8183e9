"""Ed25519 keys in PEM files. The private key stays where packs are signed; services hold public keys only."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from splitcodec.errors import SettingsError

KEY_ID_CHARACTERS: Final = 16
MAX_KEY_FILE_BYTES: Final = 4096


class VerifyKey:
    """A public key; its id is the first 16 hex characters of the SHA-256 of its 32 raw bytes."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.key_id = hashlib.sha256(raw).hexdigest()[:KEY_ID_CHARACTERS]

    @classmethod
    def read(cls, path: Path) -> VerifyKey:
        """The key in a PEM file; raises SettingsError."""
        try:
            key = serialization.load_pem_public_key(_read(path))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"{path} holds no public key in PEM; take the .pub file of `splitcodec pack keygen`"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise SettingsError(f"{path} is a {type(key).__name__}; only Ed25519 keys sign packs")
        return cls(key)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key's owner signed `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """The key as it is written to a .pub file."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = VerifyKey(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the system's random numbers."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path, passphrase: bytes | None = None) -> SigningKey:
        """The key in a PEM file; raises SettingsError, also when others may read the file."""
        if path.is_file() and path.stat().st_mode & 0o077:
            raise SettingsError(f"others may read the private key {path}; run: chmod 600 {path}")
        try:
            key = serialization.load_pem_private_key(_read(path), passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"{path} holds no private key in PEM, or its passphrase is missing or wrong"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingsError(f"{path} is a {type(key).__name__}; only Ed25519 keys sign packs")
        return cls(key)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._key.sign(message)

    def write(self, path: Path, passphrase: bytes | None = None) -> None:
        """Write the key to a new file that only its owner may read; raises SettingsError if there is one."""
        protection = (
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        )
        data = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        except OSError as error:
            raise SettingsError(
                f"{path} cannot be written ({error.strerror}); a key is never overwritten"
            ) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise SettingsError(f"key {path} cannot be read: {error.strerror}") from error
