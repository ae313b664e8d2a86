"""A store: streams with names, what is known of their pictures, and ``codec.json``; in one of two kinds."""
