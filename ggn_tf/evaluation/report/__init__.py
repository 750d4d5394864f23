"""The report: one HTML file that needs no network; a section a module, each a pure function of the evidence."""
