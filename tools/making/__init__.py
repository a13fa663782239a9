"""What the tools that make data sets share."""
