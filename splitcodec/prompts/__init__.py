"""Prompts: their schema and checks, their numbers for a rate, and the store that swaps them under load."""

from splitcodec.prompts.prompt import Prompt, RateInputs, RateTable
from splitcodec.prompts.schema import ExactConv, TensorSpec
from splitcodec.prompts.store import PromptStatus, PromptStore
from splitcodec.prompts.tensors import check_tensors, parse_tensors

__all__ = [
    "ExactConv",
    "Prompt",
    "PromptStatus",
    "PromptStore",
    "RateInputs",
    "RateTable",
    "TensorSpec",
    "check_tensors",
    "parse_tensors",
]
