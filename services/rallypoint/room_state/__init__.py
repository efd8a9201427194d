"""The room-state service: runs rooms, talks to gateways over Attach, writes results.

May import the stubs, `games` and `kit`; its `domain` is pure.
"""
