"""The kit: what every service stands on. It knows nothing of games, queues or rooms' insides.

May import: the standard library, nats (bus*.py only), redis (store.py only), opentelemetry
(telemetry*.py only), grpc (rpc*.py, telemetry*.py), prometheus_client, uvloop and the google.rpc
protos. May not import any other package of ours, stubs included.
"""
