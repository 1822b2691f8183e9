"""Packs, their signatures and prompts, and what is asked of them."""

from splitcodec.errors.base import SplitcodecError


class PackError(SplitcodecError):
    """A pack cannot be used; whoever made or copied the pack is at fault."""


class PackNotFound(PackError):
    """There is no pack at the given place; the caller's path or name is at fault."""


class UnsafePack(PackError):
    """A pack reaches outside itself or carries something that could run code; do not trust its maker."""


class PackTooLarge(PackError):
    """A file of a pack exceeds its limit; the pack's maker is at fault."""


class PackDamaged(PackError):
    """A file of a pack is missing or not the one its manifest names; the copy is at fault: fetch it again."""


class InvalidManifest(PackError):
    """A manifest breaks its schema or contradicts itself; the pack's maker is at fault."""


class InvalidTables(PackError):
    """An entropy table is not a distribution of 2**CDF_BITS counts; the pack's maker is at fault."""


class InexactScaleBranch(PackError):
    """The scale branch could leave the exact integers of float32; whoever exported it is at fault."""


class SignatureError(SplitcodecError):
    """The signature of a pack does not let it in; its maker, or the operator's list of keys, is at fault."""


class Unsigned(SignatureError):
    """Signatures are required and there is none; the operator should have the pack signed."""


class BadSignature(SignatureError):
    """No trusted key signed exactly these files; do not use them before their maker explains it."""


class SignatureExpired(SignatureError):
    """The signature ended; the maker should sign again, or the operator should set the clock."""


class SignatureRevoked(SignatureError):
    """The key or the contents were revoked; the maker should sign a sound version with a sound key."""


class RolledBack(SignatureError):
    """An older version than one that already ran here; the maker should sign it with a higher version."""


class PromptError(SplitcodecError):
    """A prompt pack cannot be used; whoever trained or uploaded it is at fault."""


class InvalidPrompt(PromptError):
    """Prompt tensors do not match the schema or are not finite; whoever exported the prompt is at fault."""


class PromptNotFound(PromptError):
    """No prompt with that digest is held here; the caller should take one of those that are listed."""


class PromptStateError(PromptError):
    """A prompt was staged, activated or leased out of order; the calling code is at fault."""


class UnknownTask(SplitcodecError):
    """The task is not in the pack; the caller should ask for one of the tasks the message lists."""


class RateOutOfRange(SplitcodecError):
    """The rate lies outside the trained rate points; the caller should stay in the message's range."""
