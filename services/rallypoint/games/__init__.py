"""The plug-in API of games.

Imports numpy and the kit, and no I/O: a game has no loop, no socket and no clock.
"""
