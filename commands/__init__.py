"""What the programs do once their flags and their config are checked: all that takes torch."""
