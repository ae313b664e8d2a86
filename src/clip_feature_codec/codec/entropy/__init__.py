"""Integers to bytes and back: arithmetic coder, frozen tables, compiled loops."""
