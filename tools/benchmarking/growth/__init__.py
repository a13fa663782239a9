"""The growth of time and memory with the input and the network: `benchmark.py growth`."""
