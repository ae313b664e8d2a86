"""What may be written where: nothing takes the place of what this program could not make again."""

from clip_feature_codec.outputs.check import Output, check_outputs
from clip_feature_codec.outputs.kinds import FileKind, FolderKind

__all__ = ["FileKind", "FolderKind", "Output", "check_outputs"]
