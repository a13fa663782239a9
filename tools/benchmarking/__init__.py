"""What the benchmarks measure, and what they measure against.

frame, subject   one frame as a data set of its own, and what is made of it
machine, timing  processor and memory; how long a call takes
report           tables, for the terminal and as Markdown
child            measurements in a process of their own
steps            an evaluation and a step of training, on any device
roofline         the time that arithmetic or memory alone would take

tools/benchmark.py          stage, stages    Stage (ours, the plain way, how to compare) -> Measurement
                            data_stages      files -> batch -> voxels, kernel maps, single operations
                            network_stages   whole networks
                            plain_versions, plain_network   the plain way, written from the definitions
tools/benchmark_growth.py   growth, growth_row (a child)
tools/benchmark_gpu.py      gpu_report, gpu_inputs, gpu_row (a child)
"""
