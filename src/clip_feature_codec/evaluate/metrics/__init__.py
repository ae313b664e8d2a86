"""Metrics: of two pictures, of their vectors, of two sets of them; and the networks that some need."""
