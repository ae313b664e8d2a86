"""Decoders that are pipelines of diffusers; nothing else imports that library."""
