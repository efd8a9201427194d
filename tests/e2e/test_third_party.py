"""Unmodified clients of others, in Chromium, against our gateway."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page
from tests.e2e.conftest import Join
from tests.support import web_clients

NOT_FOUND = 5
UNAUTHENTICATED = 16


@pytest.fixture(scope="session")
def script() -> str:
    """npm's grpc-web and @connectrpc/connect-web, bundled."""
    return web_clients.third_party()


@pytest.fixture
def page(join: Join, script: str) -> Page:
    """A page with those clients and a session."""
    found = join("Third").page
    found.add_script_tag(content=script)
    assert found.evaluate("() => thirdParty.connectUnary()") == "Third"
    return found


def test_connect_web_calls_and_streams(page: Page) -> None:
    assert page.evaluate("() => thirdParty.connectError()") == NOT_FOUND
    events = page.evaluate("() => thirdParty.connectStream()")
    assert len(events) == 3
    assert "queued" in events


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_grpc_web_calls(page: Page, kind: str) -> None:
    assert page.evaluate(f"() => thirdParty.grpcWebUnary('{kind}')") == 1500


def test_grpc_web_streams_text(page: Page) -> None:
    events = page.evaluate("() => thirdParty.grpcWebStream()")
    assert len(events) == 3
    assert "queued" in events


def test_grpc_web_reads_a_refusal(page: Page) -> None:
    assert page.evaluate("() => thirdParty.grpcWebError()") == UNAUTHENTICATED
