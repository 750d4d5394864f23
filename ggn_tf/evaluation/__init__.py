"""From a finished run to predictions, scores with intervals, figures and a report."""
