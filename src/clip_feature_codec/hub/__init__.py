"""Repositories on a model hub: seen before they are downloaded, checked when they are, and uploaded."""

from clip_feature_codec.hub.naming import is_hub_name, split_inside
from clip_feature_codec.hub.repository import Repository, look
from clip_feature_codec.hub.uploading import upload

__all__ = ["Repository", "is_hub_name", "look", "split_inside", "upload"]
