"""Pure parts of the gateway: bytes and values in, values out. No I/O, no clock, no event loop."""
