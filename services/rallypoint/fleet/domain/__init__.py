"""Pure decisions of fleet: which node is alive, which gets a room, what a claim says. No I/O."""
