"""Accuracy against bytes: a pack's codec, the untouched teacher, and the picture codecs instead."""
