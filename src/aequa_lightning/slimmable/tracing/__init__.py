"""Finds the axes along which widths can cut an ordinary network, by tracing channels through a dry run."""
