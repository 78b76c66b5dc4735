"""A randomised mixture of faults; see __main__.py."""
