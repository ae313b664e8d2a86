"""CLIP vectors to bytes and back: numpy and zstd only, never torch."""
