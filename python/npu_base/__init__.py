"""Shared by all packages: errors, files and commands. Needs only the standard library."""
