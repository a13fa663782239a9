"""How a program starts, reads its flags, picks its devices, and ends."""
