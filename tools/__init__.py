"""Programs beside main.py: data to try things on, pictures, measurements."""
