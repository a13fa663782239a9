"""Programs beside main.py: they make data for trials, draw pictures, measure speed, and write reference pages."""
