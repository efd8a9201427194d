"""Security settings: what is accepted, what is refused with which words, what is never shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.certificates import Authority

from rallypoint.kit import security, settings
from rallypoint.kit.runtime import RuntimeSettings
from rallypoint.kit.security import Security, SecuritySettings
from rallypoint.kit.settings import SettingsError

PLAIN = SecuritySettings()
NATS, REDIS = "nats://broker:4222", "redis://broker:6379/0"


def _load(wanted: SecuritySettings, *, nats: str = NATS, redis: str = REDIS) -> Security:
    return security.load(wanted, nats_url=nats, redis_url=redis)


def test_nothing_set_is_plaintext_everywhere() -> None:
    assert _load(PLAIN) == Security()


def test_variables_fill_the_settings_of_every_process(tmp_path: Path) -> None:
    loaded = settings.load(
        RuntimeSettings,
        {"RALLYPOINT_NATS_USER": "fleet", "RALLYPOINT_GRPC_CA_FILE": str(tmp_path / "ca.pem")},
    )
    assert loaded.security == SecuritySettings(nats_user="fleet", grpc_ca_file=tmp_path / "ca.pem")


def test_scheme_of_the_url_turns_tls_on() -> None:
    loaded = _load(PLAIN, nats="tls://one:1,tls://two:2", redis="rediss://broker:6379/0")
    assert loaded.nats.tls is not None
    assert loaded.redis.tls is not None
    assert loaded.grpc is None


@pytest.mark.parametrize(
    ("wanted", "scheme"),
    [
        (SecuritySettings(nats_ca_file=Path("ca.pem")), "tls://"),
        (SecuritySettings(redis_ca_file=Path("ca.pem")), "rediss://"),
    ],
    ids=["nats", "redis"],
)
def test_ca_for_a_plaintext_url_is_refused(wanted: SecuritySettings, scheme: str) -> None:
    with pytest.raises(SettingsError, match=rf"_CA_FILE is set .* with {scheme}"):
        _load(wanted)


@pytest.mark.parametrize(
    "url", ["garbage", "http://broker:4222", "nats://", "nats://broker:port", "nats://one:1,two:2"]
)
def test_url_that_names_no_broker_is_refused_without_its_login(url: str) -> None:
    with pytest.raises(SettingsError, match=r"RALLYPOINT_NATS_URL is .*nats://host:port"):
        _load(PLAIN, nats=url)
    with pytest.raises(SettingsError) as refused:
        _load(PLAIN, redis="http://user:hunter2@broker:6379")
    assert "hunter2" not in str(refused.value)


def test_unreadable_file_is_named_with_its_variable(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    with pytest.raises(SettingsError, match=r"RALLYPOINT_NATS_CA_FILE is .*No such file"):
        _load(replace(PLAIN, nats_ca_file=absent), nats="tls://broker:4222")


def test_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("hello")
    with pytest.raises(SettingsError, match=r"RALLYPOINT_REDIS_CA_FILE .*no certificate"):
        _load(replace(PLAIN, redis_ca_file=path), redis="rediss://broker:6379/0")


def test_internal_tls_takes_all_three_files_or_none(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("fleet")
    wanted = replace(
        PLAIN, grpc_ca_file=authority.ca_file, grpc_cert_file=pair.cert_file,
        grpc_key_file=pair.key_file,
    )  # fmt: skip
    loaded = _load(wanted).grpc
    assert loaded is not None
    assert loaded.key == pair.key_file.read_bytes()
    with pytest.raises(SettingsError, match="RALLYPOINT_GRPC_KEY_FILE is not set"):
        _load(replace(wanted, grpc_key_file=None))


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    wanted = replace(
        PLAIN, grpc_ca_file=authority.ca_file, grpc_cert_file=authority.issue("one").cert_file,
        grpc_key_file=authority.issue("two").key_file,
    )  # fmt: skip
    with pytest.raises(SettingsError, match=r"RALLYPOINT_GRPC_CERT_FILE .*no pair"):
        _load(wanted)


def test_passwords_and_keys_are_in_no_repr(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("fleet")
    wanted = replace(
        PLAIN, nats_password="hunter2", redis_password="hunter2", grpc_ca_file=authority.ca_file,
        grpc_cert_file=pair.cert_file, grpc_key_file=pair.key_file,
    )  # fmt: skip
    shown = repr(wanted) + repr(_load(wanted)) + repr(RuntimeSettings(security=wanted))
    assert "hunter2" not in shown
    assert "PRIVATE KEY" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://one:1,nats://two:2", "nats://one:1,nats://two:2"),
        ("nats://user:pass@one:1,tls://u:p@two:2", "nats://one:1,tls://two:2"),
        ("redis://:p@ss@one:1/0", "redis://one:1/0"),
    ],
    ids=["plain", "nats", "redis"],
)
def test_url_is_shown_without_its_login(url: str, shown: str) -> None:
    assert security.shown(url) == shown
