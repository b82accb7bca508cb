"""Templates of the Yellow platform."""
