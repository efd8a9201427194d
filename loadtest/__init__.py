"""Load tests: Locust drives, a swarm of asyncio players plays (docs/loadtest.md).

`locustfile`, `locust_*`: the Locust side, in an environment of its own (requirements.txt here).
`swarm`, `players`, `tally`: the players, in the environment of the runtime.
`shapes`, `slo`, `report`: pure; both sides and the tests import them.
"""
