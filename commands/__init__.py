"""The work of the programs, once their flags and their config are checked: all that takes torch."""
