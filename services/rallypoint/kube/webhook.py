"""Admission and conversion webhooks over TLS: plain functions behind the API server's protocol.

    server = Server(certificates)
    server.admit("/sets", review_set)              # Admission -> Verdict
    server.convert("/convert", convert)            # (object, wanted apiVersion) -> object
    async with server.listening(port=9443): ...

Functions do no I/O: the API server waits for them with a user behind it. An exception refuses the
request with its text, a ValueError is the user's fault, anything else is logged as ours.
"""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from rallypoint.kit import telemetry
from rallypoint.kube.domain.patches import JsonPatch

log = logging.getLogger(__name__)
EVERYWHERE = "0.0.0.0"  # noqa: S104  # the API server calls from elsewhere
BODY_MAX_BYTES = 8 << 20  # the API server sends a page of objects to convert in one request


@dataclass(frozen=True, slots=True)
class Admission:
    """What somebody wants to do."""

    operation: str
    kind: str
    namespace: str
    name: str
    user: str
    new: Mapping[str, Any] | None
    old: Mapping[str, Any] | None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it may be done; `patch` changes it on the way, `warnings` are shown by kubectl."""

    allowed: bool = True
    message: str = ""
    warnings: tuple[str, ...] = ()
    patch: JsonPatch = field(default_factory=tuple)


Admit = Callable[[Admission], Verdict]
Convert = Callable[[dict[str, Any], str], dict[str, Any]]


class Server:
    """Serves every webhook of a process on one port."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._app = web.Application(client_max_size=BODY_MAX_BYTES)
        self._app.router.add_get("/healthz", _healthy)

    def admit(self, path: str, function: Admit) -> None:
        """Answer AdmissionReviews at a path."""

        def answer(review: dict[str, Any]) -> dict[str, Any]:
            return _admitted(review, function)

        self._app.router.add_post(path, _endpoint(answer))

    def convert(self, path: str, function: Convert) -> None:
        """Answer ConversionReviews at a path."""

        def answer(review: dict[str, Any]) -> dict[str, Any]:
            return _converted(review, function)

        self._app.router.add_post(path, _endpoint(answer))

    @asynccontextmanager
    async def listening(self, *, host: str = EVERYWHERE, port: int = 9443) -> AsyncIterator[int]:
        """Serve; yields the port, which is a free one when 0 is asked for."""
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=self._context)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


def _endpoint(
    answer: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        with telemetry.span(f"webhook {request.path}", kind="server", parent=dict(request.headers)):
            try:
                review = msgspec.json.decode(await request.read())
                body = answer(review)
            except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
                return web.Response(status=400, text=f"not a review: {error}")
            return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    return handle


def _admitted(review: dict[str, Any], function: Admit) -> dict[str, Any]:
    request = review["request"]
    asked = Admission(
        operation=request["operation"],
        kind=request["kind"]["kind"],
        namespace=request.get("namespace", ""),
        name=request.get("name", ""),
        user=request.get("userInfo", {}).get("username", ""),
        new=request.get("object"),
        old=request.get("oldObject"),
        dry_run=bool(request.get("dryRun")),
    )
    try:
        verdict = function(asked)
    except Exception as error:
        verdict = Verdict(allowed=False, message=_told(error, request["uid"]))
    response: dict[str, Any] = {"uid": request["uid"], "allowed": verdict.allowed}
    if verdict.message:
        response["status"] = {"message": verdict.message, "code": 403}
    if verdict.warnings:
        response["warnings"] = list(verdict.warnings)
    if verdict.patch:
        patch = base64.b64encode(msgspec.json.encode(verdict.patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": patch}
    return _reviewed(review, response)


def _converted(review: dict[str, Any], function: Convert) -> dict[str, Any]:
    request = review["request"]
    response: dict[str, Any] = {"uid": request["uid"]}
    try:
        wanted = request["desiredAPIVersion"]
        response["convertedObjects"] = [function(item, wanted) for item in request["objects"]]
        response["result"] = {"status": "Success"}
    except Exception as error:
        response["result"] = {"status": "Failure", "message": _told(error, request["uid"])}
    return _reviewed(review, response)


def _reviewed(review: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def _told(error: Exception, uid: str) -> str:
    if not isinstance(error, ValueError):
        log.error("webhook failed", exc_info=error, extra={"uid": uid})
    return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok")
