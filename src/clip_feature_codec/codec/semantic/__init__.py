"""The semantic layer: CLIP vectors to payloads and back, by profile."""
