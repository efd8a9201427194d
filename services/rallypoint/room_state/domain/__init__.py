"""Seats, pacing and the bytes of responses: values in, values out. Imports no I/O."""
