"""Fleet: places rooms on room nodes, watches the nodes, gives slots back.

May import `rallypoint.kit` and the stubs. `domain` is pure: no I/O, no clock. Redis holds the
claims, the KV bucket `rooms` the ownership; everything in RAM here can be rebuilt from those two.
"""
