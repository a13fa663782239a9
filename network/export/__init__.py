"""Export: a trained network as a model that runs without this repository, in ONNX or as a program of torch."""
