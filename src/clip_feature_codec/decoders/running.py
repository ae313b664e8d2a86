"""From a file of our own kind of decoder to the decoder, on whichever library it runs here."""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.graphs import Graphs


def load_checkpoint(path: Path, device: str = "auto") -> Decoder:
    """Load a decoder of ours: as ONNX graphs, where `Graphs.find` has it that these run, else on torch.

    Args:
        path: what `checkpoint.save_decoder` wrote.
        device: see `devices.pick_device`.

    Raises:
        CheckpointError: there is no such file, or it is not a whole decoder checkpoint of this version.
        ModelError: there are graphs beside it that were made with another one.
        ConfigError: there is no such device.
    """
    if graphs := Graphs.find(path, device):
        from clip_feature_codec.decoders.graphs import GraphDecoder

        return GraphDecoder(graphs)
    from clip_feature_codec.decoders.checkpoint import load_decoder
    from clip_feature_codec.devices import pick_device

    return load_decoder(path, pick_device(device))
