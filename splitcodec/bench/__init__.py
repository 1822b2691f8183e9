"""Speed and memory of the real services on real frames."""
