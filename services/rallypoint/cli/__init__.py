"""The command line: the only package that sees every service."""
