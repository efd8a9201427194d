"""The operator: makes a GameServerSet true without ending a match.

It reads caches and heartbeats, decides with `fleet.domain`, and acts on the API server, in Redis
and at the servers; one process at a time, by a Lease. May import what fleet may.
"""
