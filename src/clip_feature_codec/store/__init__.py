"""A store: a folder of ``.clp`` files with their manifest and ``codec.json``."""
