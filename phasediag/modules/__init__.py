"""Any torch module as a network of a phase diagram: sweeps over width and exponents, and `measure`, which asks in which regime one is."""
