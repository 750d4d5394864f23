"""The report's figures: each function draws one from arrays or rows of the predictions table."""
