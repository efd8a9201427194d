"""Matchmaking: tickets become matches, results become ratings.

May import `rallypoint.kit`, the stubs and its own modules; never another service. Redis is the
truth for tickets and ratings (one Lua file per transition, beside the code); facts go to JetStream
through an outbox in Redis. One leader per queue matches; every process answers calls.
"""
