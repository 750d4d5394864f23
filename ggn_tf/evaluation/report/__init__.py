"""The report: one HTML file that needs no network. Each section is a function of predictions and records."""
