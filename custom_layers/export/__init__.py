"""Models for other runtimes: ONNX, with its own recurrent operators."""
