"""Encoding a folder of pictures."""

from clip_feature_codec.encode.folder import BATCH_SIZE, EncodeResult, encode_folder

__all__ = ["BATCH_SIZE", "EncodeResult", "encode_folder"]
