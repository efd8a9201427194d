"""Parts of a real Kubernetes on one machine, for tests and for persons (docs/cluster.md).

plane.controllers(server)         # controller manager and scheduler for an `api_server`
fakes.fake_nodes(server, 100)     # nodes and pods of KWOK: no kernel, no container
"""
