"""In which regime does this initialisation train? From its name, its scales or a torch module to a place in the phase diagram."""
