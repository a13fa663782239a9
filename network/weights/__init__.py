"""From a file of weights to a network: the file is untrusted input, all of it."""
