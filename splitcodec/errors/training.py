"""Training, export and the data for both."""

from splitcodec.errors.base import SplitcodecError


class TrainingError(SplitcodecError):
    """A training run cannot start or go on; its recipe, checkpoint or teacher is at fault."""


class ExportMismatch(SplitcodecError):
    """An exported graph does not give the model's numbers; the export is at fault: do not ship the pack."""


class DatasetError(SplitcodecError):
    """Training or evaluation data is missing or malformed; the caller's path or archive is at fault."""
