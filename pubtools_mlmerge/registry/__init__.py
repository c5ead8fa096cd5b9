"""Registries: HTTP, logins, and what a merge asks of them."""
