"""Export to SavedModel, and server and client of TensorFlow Serving's protocol."""
