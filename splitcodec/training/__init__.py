"""Training of codecs and prompts. Enters torch; nothing at run time imports this room."""
