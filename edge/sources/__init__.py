"""Cameras that this edge reads itself: one process each, so a stream that hangs harms nothing else."""
