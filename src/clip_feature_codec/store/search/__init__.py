"""Searching a store: its index, the nearest pictures, duplicates."""
