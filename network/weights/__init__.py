"""Reading of checkpoint files, all of whose content is untrusted, and loading of their weights into networks."""
