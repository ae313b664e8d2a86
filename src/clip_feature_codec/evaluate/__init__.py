"""How good codecs are at equal bytes: rivals, metrics, analysis, and the reports that show it."""
