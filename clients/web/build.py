"""Build the web client (nothing to build yet)."""
