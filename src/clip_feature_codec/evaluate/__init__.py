"""How good codecs are at equal bytes: baselines, metrics, analysis, and the reports that show it."""
