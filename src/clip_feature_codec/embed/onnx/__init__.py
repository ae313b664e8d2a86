"""CLIP models as ONNX graphs, without torch and open_clip."""
