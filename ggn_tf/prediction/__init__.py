"""The answer about the nodules of one CT."""
