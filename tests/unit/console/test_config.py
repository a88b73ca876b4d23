import dataclasses
import os
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext

from countersign.console.config import (
    ROOT,
    RegistrySettings,
    Settings,
    record_place,
    recorded_place,
    settings_from,
)
from countersign.console.errors import UsageError
from countersign.console.sources import check, load_settings, renamed


def context(**given: object) -> MockContext:
    return MockContext(Config(overrides=given))


@pytest.fixture(autouse=True)
def no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have set some, as CI does."""
    for name in os.environ:
        if name.startswith("INVOKE_") or name == "CRIO_BIN":
            monkeypatch.delenv(name)


def test_an_empty_configuration_gives_the_defaults(tmp_path: Path) -> None:
    assert settings_from(context(state=tmp_path)) == dataclasses.replace(Settings(), state=tmp_path)


def test_invoke_yaml_states_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INVOKE_STATE", str(tmp_path))
    monkeypatch.delenv("INVOKE_CACHE", raising=False)
    assert load_settings() == dataclasses.replace(Settings(), state=tmp_path)


def test_variables_win_over_invoke_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INVOKE_STATE", str(tmp_path))
    monkeypatch.setenv("INVOKE_NODE", "kind")
    monkeypatch.setenv("INVOKE_REGISTRY_ALLOW_HTTP", "false")
    monkeypatch.setenv("INVOKE_OFFLINE", "1")
    monkeypatch.setenv("INVOKE_KIND_PREINSTALLED", "no")
    settings = load_settings()
    assert (settings.node, settings.registry.allow_http, settings.offline) == ("kind", False, True)
    assert settings.kind.preinstalled is False


@pytest.mark.parametrize(
    ("said", "release"), [("v1.2.3", "1.2.3"), ("1.2.3-rc.1", "1.2.3-rc.1"), ("none", "none"), ("", ""), (None, "")]
)
def test_a_release_of_the_gate_is_a_version_or_none(said: object, release: str) -> None:
    assert settings_from(context(tools={"gate_release": said})).tools.gate_release == release


@pytest.mark.parametrize("said", ["latest", "1.2", "v1.2.3/..", "v1.2.3+x", "vv1.2.3", "1.2.3-", "no", False, 1.2])
def test_any_other_release_of_the_gate_is_refused(said: object) -> None:
    with pytest.raises(UsageError, match=r"^tools\.gate_release: got "):
        settings_from(context(tools={"gate_release": said}))


def test_a_former_name_is_read_with_a_hint_and_the_present_one_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INVOKE_STATE", str(tmp_path))
    monkeypatch.setenv("INVOKE_KIND_FROM_BIRTH", "no")
    assert load_settings().kind.preinstalled is False
    hint = "INVOKE_KIND_FROM_BIRTH is called INVOKE_KIND_PREINSTALLED now"
    assert hint in capsys.readouterr().err
    monkeypatch.setenv("INVOKE_KIND_PREINSTALLED", "yes")
    assert load_settings().kind.preinstalled is True


def test_a_file_may_have_a_key_by_its_former_name(capsys: pytest.CaptureFixture[str]) -> None:
    content = {"kind": {"from_birth": "no", "workers": 2}}
    renamed(content, "mine.yaml")
    check(content, "mine.yaml")
    assert content == {"kind": {"preinstalled": "no", "workers": 2}}
    assert "mine.yaml: kind.from_birth is called kind.preinstalled now" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "path"), [("sub", ROOT / "sub"), ("/abs", Path("/abs")), ("~/x", Path.home() / "x")])
def test_paths_count_from_the_repository(
    value: str, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_from(context(keys=value)).keys == path


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert settings_from(context()).cache == tmp_path / "countersign"


@pytest.mark.parametrize("value", [True, "1", "yes", "True", " on "])
def test_a_switch_is_on(value: object) -> None:
    assert settings_from(context(registry={"allow_http": value})).registry == RegistrySettings(allow_http=True)


@pytest.mark.parametrize("value", [None, False, "", "0", "no", "False", "off"])
def test_a_switch_is_off(value: object) -> None:
    assert settings_from(context(registry={"allow_http": value})).registry == RegistrySettings(allow_http=False)


def test_credential_providers_and_their_folder() -> None:
    both = {"credential_providers": "/etc/providers.yaml", "credential_provider_bin_dir": "/opt/bin"}
    assert settings_from(context(registry=both)).registry == RegistrySettings(**both)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("credential_providers", "", "credential_providers"),
        ("credential_provider_bin_dir", "", "credential_provider_bin_dir"),
        ("credential_providers", "providers.yaml", "credential_providers"),
        ("credential_provider_bin_dir", "bin", "credential_provider_bin_dir"),
    ],
)
def test_credential_providers_without_absolute_paths_are_refused(key: str, value: str, named: str) -> None:
    given = {"credential_providers": "/etc/providers.yaml", "credential_provider_bin_dir": "/opt/bin", key: value}
    with pytest.raises(UsageError, match=rf"^registry\.{named}: got '{value}'; expected an absolute path on the nodes"):
        settings_from(context(registry=given))


def test_a_recorded_place_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "place").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"place: is not text; expected a place; remove it"):
        recorded_place(tmp_path)
    (tmp_path / "place").write_bytes(b"kind\n")
    assert recorded_place(tmp_path) == "kind"


def test_a_switch_that_is_neither_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^offline: got 'maybe'; expected yes or no$"):
        settings_from(context(offline="maybe"))
    with pytest.raises(UsageError, match=r"^registry\.allow_http: got 'maybe'; expected yes or no$"):
        settings_from(context(registry={"allow_http": "maybe"}))


def test_the_place_is_what_the_task_says_then_the_configuration_then_the_last_set_up(tmp_path: Path) -> None:
    record_place(tmp_path, "kind")
    assert settings_from(context(state=tmp_path, node="vagrant"), on="host").node == "host"
    assert settings_from(context(state=tmp_path, node="vagrant")).node == "vagrant"
    assert settings_from(context(state=tmp_path, node="auto")).node == "kind"
    record_place(tmp_path, "")
    assert settings_from(context(state=tmp_path, node="auto")).node == "auto"


def test_forgetting_an_unknown_place_is_no_error(tmp_path: Path) -> None:
    record_place(tmp_path / "state", "")
    assert recorded_place(tmp_path / "state") == ""
