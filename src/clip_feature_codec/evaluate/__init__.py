"""How good the decoded pictures are, and the reports that say so."""
