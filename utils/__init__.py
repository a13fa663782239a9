"""Records, configuration, metrics and output, which all other parts use."""
