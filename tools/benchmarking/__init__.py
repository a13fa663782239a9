"""The measurements of `benchmark.py`, and the plain versions that they compare with.

frame, subject   one frame as a data set of its own; its batches, networks and voxels
machine, host    processor and memory; what this process and others take of them
timing           how long a call takes
flags, report    common flags of the benchmarks, and tables that grow row by row
child            measurements in a process of their own
steps            an evaluation and a step of training, on any device
roofline         the time that arithmetic or memory alone would take
plain/           the plain way, written from the definitions: versions of single steps, network of 2DPASS

Each benchmark has a folder with its `command`:
stages/          stage (ours, the plain way, how to compare), catalogue of them; data and networks
growth/          cases, table, row (a child)
exports/         ways, inputs, table, row (a child)
gpu/             inputs, tables, row (a child)
"""
