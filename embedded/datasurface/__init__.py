"""A small stand-in for DataSurface: its model classes, and its Yellow platform.

It covers what one-machine runs need, and says so where a model uses more.
"""
