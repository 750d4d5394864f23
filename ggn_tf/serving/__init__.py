"""Export to SavedModel, and TensorFlow Serving's protocol: server and client."""
