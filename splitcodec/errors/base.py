"""The base of all errors."""


class SplitcodecError(Exception):
    """Base of all errors raised on purpose; catch it to catch them all."""
