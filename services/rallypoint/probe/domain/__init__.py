"""What the kernel counted, as values. No I/O."""
