"""Laws of a merge, held against generated indexes."""
