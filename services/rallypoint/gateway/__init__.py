"""The gateway: terminates gRPC-Web and native gRPC, holds client streams, and fans frames out.

May import kit, the stubs of `rallypoint.v1` and `rallypoint.internal.v1`, and third-party transport
libraries; no other service. `domain` does no I/O. `calls` is the interface between the two edges
(`web_server`, `native`) and the handlers.
"""
