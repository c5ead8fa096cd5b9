"""Reports: for programs, for terminals, and as pages."""
