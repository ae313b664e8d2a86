"""CLIP models of open_clip's: by name and tag, from a folder, or from a configuration and a weights file."""
