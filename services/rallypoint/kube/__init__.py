"""A Kubernetes runtime: typed objects, informers, queues, server-side apply, leases, webhooks.

Knows nothing of games and imports nothing of this project but `kit`; see docs/kube.md.
`domain/` decides without I/O, the modules beside it talk to the API server, and `transport` and
`webhook` alone know which HTTP library is used.
"""
