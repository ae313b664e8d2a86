"""Where pictures come from: folders, so far."""
