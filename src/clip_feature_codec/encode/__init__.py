"""Encoding pictures into a store."""

from clip_feature_codec.encode.encoding import BATCH_SIZE, EncodeResult, encode_source

__all__ = ["BATCH_SIZE", "EncodeResult", "encode_source"]
