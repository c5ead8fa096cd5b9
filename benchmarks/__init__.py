"""How long merges take, beside the host's class and other programs: `make bench`."""
