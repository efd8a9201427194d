"""The kernel lists this process's connections by port, with who is at the other end."""

import os
import socket

import pytest

from rallypoint.kit import inet_diag


def test_connections_at_a_port_are_listed_with_their_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        port = one.getsockname()[1]
        with (
            socket.create_connection(one.getsockname(), source_address=("127.0.0.2", 0)) as client,
            socket.create_connection(("127.0.0.1", other.getsockname()[1])),
            one.accept()[0] as accepted,
        ):
            try:
                (found,) = inet_diag.at_port(port)
            except OSError as problem:
                pytest.skip(f"no netlink here: {problem}")
            assert (found.address, found.peer_port) == client.getsockname()
            assert found.inode == os.fstat(accepted.fileno()).st_ino
            assert len(list(inet_diag.messages())) >= 4


def test_address_of_ipv4_is_told_as_such_at_a_socket_of_ipv6() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            try:
                (found,) = inet_diag.at_port(port)
            except OSError as problem:
                pytest.skip(f"no netlink here: {problem}")
            assert found.address == "127.0.0.1"
