"""How time and memory grow with the input and the network: `benchmark.py growth`."""
