"""The hunt: random sequences of all that writes a tag, against a model of what it may lose."""
