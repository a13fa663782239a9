"""The made-up street: what stands and drives where, and what it looks like."""
