"""Image towers in transformers' format: CLIP's with its projection, and SigLIP's; from pipelines' folders."""
