"""The commands that work on a model."""
