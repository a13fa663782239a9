"""Parts of tools/publish.py: what a published folder says, and its writing."""
