"""The program that lies beside an exported ONNX model, and runs it without this repository."""
