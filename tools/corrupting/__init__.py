"""The parts of tools/make_corruptions.py: the clean frames, their corruption, and the note about finished subsets."""
