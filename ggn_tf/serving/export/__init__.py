"""Write a trained model as a version directory that TensorFlow Serving loads."""
