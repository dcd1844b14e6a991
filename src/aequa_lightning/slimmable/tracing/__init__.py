"""From an ordinary network to the axes along which a width cuts it."""
