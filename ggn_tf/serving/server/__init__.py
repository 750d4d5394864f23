"""The embedded gRPC server, and the command line of TensorFlow Serving's own."""
