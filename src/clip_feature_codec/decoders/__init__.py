"""What paints pictures from streams: the protocol that the program knows, and the decoders behind it."""
