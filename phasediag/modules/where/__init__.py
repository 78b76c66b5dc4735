"""In which regime does this module train? It is trained at several widths, and told layer by layer."""
