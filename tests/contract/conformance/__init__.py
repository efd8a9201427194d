"""A server for the Connect conformance runner: our two edges under its ConformanceService."""
