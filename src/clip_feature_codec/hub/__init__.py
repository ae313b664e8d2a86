"""Repositories on a model hub: seen before they are downloaded, checked when they are, and uploaded."""

from clip_feature_codec.hub.repository import Repository, look
from clip_feature_codec.hub.uploading import upload

__all__ = ["Repository", "look", "upload"]
