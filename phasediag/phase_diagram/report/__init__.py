"""A phase-diagram folder as one interactive page."""
