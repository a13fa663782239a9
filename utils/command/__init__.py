"""The start of a program, its flags, its devices, and its end."""
