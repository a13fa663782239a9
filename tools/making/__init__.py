"""The parts that the tools that make data sets share."""
