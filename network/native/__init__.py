"""C++ for CPUs: it is compiled on first use with the compiler of the machine, and everything works without it."""
