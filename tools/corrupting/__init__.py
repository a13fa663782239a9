"""Behind tools/make_corruptions.py: the clean frames, what is done to one, and the note of what was done."""
