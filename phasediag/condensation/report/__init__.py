"""A condensation folder as one interactive page."""
