"""Other codecs, each at its best under a number of bytes."""
