"""Integers to bytes and back: arithmetic coder, frozen tables, the two quantisers."""
