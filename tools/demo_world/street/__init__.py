"""The made-up street: its layout, its objects and their textures."""
