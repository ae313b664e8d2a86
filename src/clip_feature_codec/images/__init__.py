"""Between picture files, 8-bit RGB pictures and tensors in [-1, 1]: the only place that rounds."""

from clip_feature_codec.images.arrays import Picture, as_picture
from clip_feature_codec.images.formats import IMAGE_SUFFIXES, READ_SUFFIXES, picture_kind
from clip_feature_codec.images.limits import MAX_PIXELS
from clip_feature_codec.images.reading import load_image
from clip_feature_codec.images.shapes import middle_of_strip, output_size, resize_to, squash
from clip_feature_codec.images.tensors import to_pictures, to_tensor
from clip_feature_codec.images.writing import has_mark, note_of, png_bytes, save_image

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "READ_SUFFIXES",
    "Picture",
    "as_picture",
    "has_mark",
    "load_image",
    "middle_of_strip",
    "note_of",
    "output_size",
    "picture_kind",
    "png_bytes",
    "resize_to",
    "save_image",
    "squash",
    "to_pictures",
    "to_tensor",
]
