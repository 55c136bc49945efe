"""nextmove's decision engine: the pure core, and the loop around it."""
