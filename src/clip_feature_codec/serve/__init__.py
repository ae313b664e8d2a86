"""A store over HTTP: a page to look at it, and the codec for programs in other languages."""
