"""Who calls and who answers: gRPC by its own library, DNS by hand. `peer` plays them."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kernel.peer import Part

METHODS = ("/probe.test.Calls/Quick", "/probe.test.Calls/Slow")
TOKEN = "secret-" + "s" * 600
"""Longer than what one event of the ring holds."""
NO_SUCH_NAME = 3


def serve_grpc(part: Part) -> dict[str, Any]:
    """Answer every call, `Slow` ones after a while, until standard input closes."""
    from concurrent import futures

    import grpc

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            def answer(request: bytes, _: Any) -> bytes:
                if details.method.endswith("Slow"):
                    time.sleep(part.think_ms / 1000)
                return request

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"{part.address}:{part.port}")
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(0).wait()
    return {}


def ask_grpc(part: Part) -> dict[str, Any]:
    """Call both methods in turn; how long each took by its own clock."""
    import grpc

    times: dict[str, list[float]] = {method: [] for method in METHODS}
    with grpc.insecure_channel(f"{part.address}:{part.port}") as channel:
        grpc.channel_ready_future(channel).result(10)
        for _ in range(part.count):
            for method in METHODS:
                begun = time.monotonic()
                channel.unary_unary(method)(b"x" * part.size, metadata=(("authorization", TOKEN),))
                times[method].append(time.monotonic() - begun)
                time.sleep(part.gap_ms / 1000)
    return {"times_s": times}


def serve_dns(part: Part) -> dict[str, Any]:
    """Answer `count` questions on port 53, every tenth with an error."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((part.address, 53))
        print("ready", flush=True)
        for number in range(part.count):
            question, who = sock.recvfrom(512)
            time.sleep(part.think_ms / 1000)
            code = NO_SUCH_NAME if number % 10 == 9 else 0
            sock.sendto(question[:2] + bytes([0x81, 0x80 | code]) + question[4:], who)
    return {}


def ask_dns(part: Part) -> dict[str, Any]:
    """Ask, wait for the answer; two sockets, which may use the same numbers."""
    times: list[float] = []

    def ask(first: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((part.address, 53))
            for number in range(first, first + part.count // 2):
                head = number.to_bytes(2, "big") + bytes([1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
                begun = time.monotonic()
                sock.send(head + b"\x06player\x00\x00\x01\x00\x01")
                sock.recv(512)
                times.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(100,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"times_s": times}
