"""Every ONNX node test, and random geometry: derivatives by difference, eagerly and compiled."""
