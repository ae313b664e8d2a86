"""The layout layer: coarse colour pictures to payloads and back."""
