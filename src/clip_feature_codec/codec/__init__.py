"""CLIP vectors to bytes and back: numpy and zstandard only, never torch."""
