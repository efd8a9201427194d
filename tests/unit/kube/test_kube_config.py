"""Configuration: what kubectl would use, from files, from a pod, with errors that name the file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from rallypoint.kit.settings import SettingsError
from rallypoint.kube import config

CA = base64.b64encode(b"the ca").decode()


def write(path: Path, **document: object) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    (tmp_path / "me.pem").write_bytes(b"me")
    (tmp_path / "me.key").write_bytes(b"key")
    cluster = {"server": "https://one:6443/", "certificate-authority-data": CA}
    plug_in = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "get-token",
        "args": ["--for", "one"],
        "env": [{"name": "A", "value": "b"}],
    }
    return write(
        tmp_path / "config",
        **{"current-context": "dev"},
        clusters=[{"name": "one", "cluster": cluster}],
        users=[
            {"name": "me", "user": {"client-certificate": "me.pem", "client-key": "me.key"}},
            {"name": "robot", "user": {"exec": plug_in}},
        ],
        contexts=[
            {"name": "dev", "context": {"cluster": "one", "user": "me", "namespace": "game"}},
            {"name": "ci", "context": {"cluster": "one", "user": "robot"}},
            {"name": "lost", "context": {"cluster": "nowhere", "user": "me"}},
        ],
    )


def test_the_current_context_with_files_beside_it(kubeconfig: Path) -> None:
    found = config.from_files([kubeconfig])
    assert (found.name, found.server, found.namespace) == ("dev", "https://one:6443", "game")
    assert (found.ca, found.client_certificate, found.client_key) == (b"the ca", b"me", b"key")


def test_a_plug_in_is_read_with_its_arguments(kubeconfig: Path) -> None:
    plug_in = config.from_files([kubeconfig], context="ci").exec_plugin
    assert plug_in is not None
    assert (plug_in.command, plug_in.arguments) == ("get-token", ("--for", "one"))
    assert plug_in.environment == (("A", "b"),)


def test_the_first_file_to_name_a_thing_wins(kubeconfig: Path, tmp_path: Path) -> None:
    first = write(
        tmp_path / "first",
        contexts=[{"name": "dev", "context": {"cluster": "one", "namespace": "mine"}}],
    )
    found = config.from_files([first, kubeconfig])
    assert (found.namespace, found.server) == ("mine", "https://one:6443")
    assert found.client_certificate is None


def test_what_is_missing_is_named(kubeconfig: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no cluster 'nowhere' in"):
        config.from_files([kubeconfig], context="lost")
    with pytest.raises(SettingsError, match="no context 'prod'"):
        config.from_files([kubeconfig], context="prod")
    with pytest.raises(SettingsError, match="no kubeconfig"):
        config.from_files([tmp_path / "absent"])


def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"ca")
    (tmp_path / "namespace").write_text("prod\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = config.in_cluster(environ, account=tmp_path)
    assert (found.server, found.namespace, found.ca) == ("https://[fd00::1]:443", "prod", b"ca")
    assert found.token_file == tmp_path / "token"


def test_kubeconfig_is_preferred_to_the_pod(kubeconfig: Path) -> None:
    environ = {"KUBECONFIG": str(kubeconfig), "KUBERNETES_SERVICE_HOST": "x"}
    assert config.detect(environ).name == "dev"


def test_no_secret_is_shown() -> None:
    made = config.ClusterConfig(
        "one", "https://one", client_key=b"hidden", token="hidden", basic=("me", "hidden")
    )
    assert "https://one" in repr(made)
    assert "hidden" not in repr(made)
