"""The parts of tools/study.py: what is run, when, and what is made of the results."""
