"""The steps inside pubtools-quay: everything that knows the host."""
