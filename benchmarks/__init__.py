"""Measurements of this project beside the host's class and other programs: `make bench`."""
