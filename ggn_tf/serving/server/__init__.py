"""The embedded gRPC server."""
