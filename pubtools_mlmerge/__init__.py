"""Merge manifest lists, so that a tag keeps its architectures."""
