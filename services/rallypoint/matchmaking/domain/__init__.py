"""The pure half of matchmaking: values and `now` in, decisions out.

Imports numpy, openskill (lazily), the standard library and `rallypoint.kit` names and errors; never
asyncio, grpc, sockets, logging, brokers or a clock.
"""
