"""What `tools/benchmark.py` measures, and what it measures against.

subject          one frame and what the stages need of it
stage            Stage (ours, the plain way, how to compare) -> Measurement
data_stages      files -> batch -> voxels, kernel maps, single operations
network_stages   whole networks
plain_versions, plain_network   the plain way, written from the definitions
"""
