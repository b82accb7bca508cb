"""The data platforms that can run an ecosystem model."""
