"""What a user can set: invoke.yaml, ``INVOKE_*`` and ``--on``, read into one typed value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from countersign.console import places, values
from countersign.console.errors import UsageError
from countersign.console.notation import NotationSettings, notation_settings
from countersign.console.tooling import ToolSettings, tool_settings

ROOT = values.ROOT
"""The repository: relative paths in the configuration count from here."""


def default_cache() -> Path:
    """Return the folder for built programs: ``$XDG_CACHE_HOME`` or ``~/.cache``, plus our name.

    A relative ``XDG_CACHE_HOME`` does not count (XDG Base Directory Specification).

    Raises:
        UsageError: there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "countersign"
    try:
        return Path.home() / ".cache" / "countersign"
    except RuntimeError as error:
        raise UsageError(str(error), where="cache", do="set HOME, or INVOKE_CACHE to a folder of yours") from None


@dataclass(frozen=True)
class RegistrySettings:
    """How registries are reached.

    Attributes:
        docker_config: a Docker ``config.json`` with credentials; None means none for nodes, and the user's own here.
        allow_http: plain HTTP to hosts beyond loopback.
        proof_image: an image that the policy allows, which set-up has to get through; empty tries what is there.
        credential_providers: on nodes, the kubelet's ``--image-credential-provider-config``; empty for none.
        credential_provider_bin_dir: on nodes, the folder of their programs; both are set, or neither is.
    """

    docker_config: Path | None = None
    allow_http: bool = False
    proof_image: str = ""
    credential_providers: str = ""
    credential_provider_bin_dir: str = ""

    def __post_init__(self) -> None:
        """Check the paths of the kubelet's credential providers.

        Raises:
            UsageError: one of them is not absolute, or is set without the other.
        """
        for key in ("credential_providers", "credential_provider_bin_dir"):
            path = str(getattr(self, key))
            if not path.startswith("/") and (self.credential_providers or self.credential_provider_bin_dir):
                raise UsageError(
                    f"got {path!r}",
                    where=f"registry.{key}",
                    expected="an absolute path on the nodes, for the providers and for their folder",
                    do="set both as the kubelet has them, or neither",
                )


@dataclass(frozen=True)
class SigningSettings:
    """How ``signing.sign`` and ``signing.attest`` sign.

    Attributes:
        password_file: a file with the key's password.
        recursive: sign every platform's manifest too, not only what the name resolves to.
        certificate: the key's certificate (PEM); None for a key without one.
        certificate_chain: what leads from there to a root (PEM).
        timestamp_server: URL of a timestamp server (RFC 3161), with a certificate; empty for none.
        trust_config: trust and services of the Sigstore that ``--identity`` uses; None for the public one.
    """

    password_file: Path | None = None
    recursive: bool = True
    certificate: Path | None = None
    certificate_chain: Path | None = None
    timestamp_server: str = ""
    trust_config: Path | None = None


@dataclass(frozen=True)
class CheckSettings:
    """What ``./inv test`` runs.

    Attributes:
        turn: of the parts that take turns: ``all``, ``commit`` (the commit chooses), or names with commas between them.
        guards: how many guards are taken out in a run, or ``all``.
        fuzz: seconds for each fuzz target.
        starts: how many containers are started while the gate is upgraded or killed.
        machines: how many small machines are made; empty for as many as a part has by itself.
    """

    turn: str = "all"
    guards: str = "8"
    fuzz: str = "10"
    starts: str = "60"
    machines: str = ""


@dataclass(frozen=True)
class Settings:
    """The whole configuration of one task.

    Attributes:
        node: the place: ``auto``, ``host``, ``kind``, ``vagrant`` or ``ssh://user@host``.
        room: the runtime whose place that is: ``containerd`` or ``crio``.
        state: everything that set-up makes on this host lies in this folder.
        cache: built programs and images, shared by all checkouts of one user.
        policy: the policy that nodes are given.
        keys: generated keys.
        policy_key: the private key that signs the policy at set-up, a file or as ``--key`` names one; empty for none.
        policy_keys: public keys, any of which may sign policies; none means ``policy_key``'s own.
        notation: who signs in the format notation, and how.
        offline: never use the network to fetch tools.
        environment: of the process: what keeps keys is found, and logged in to, as its own programs do it.
        sudo_password: for sudo on a machine over SSH where it wants one (Invoke's own ``sudo.password``).
    """

    node: str = "auto"
    room: str = "containerd"
    state: Path = ROOT / ".state"
    cache: Path = field(default_factory=default_cache)
    policy: Path = ROOT / "shared" / "policy.yaml"
    keys: Path = ROOT / "shared" / "keys"
    policy_key: str = ""
    policy_keys: tuple[Path, ...] = ()
    registry: RegistrySettings = RegistrySettings()
    signing: SigningSettings = SigningSettings()
    kind: places.KindSettings = places.KindSettings()  # noqa: RUF009  frozen, like the others
    crio: places.CrioSettings = places.CrioSettings()  # noqa: RUF009  frozen, like the others
    vagrant: places.VagrantSettings = places.VagrantSettings()  # noqa: RUF009  frozen, like the others
    notation: NotationSettings = NotationSettings()  # noqa: RUF009  frozen, like the others
    tests: CheckSettings = CheckSettings()
    tools: ToolSettings = ToolSettings()  # noqa: RUF009  frozen, like the others
    offline: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    sudo_password: str = field(default="", repr=False)


def settings_from(context: Any, on: str | None = None, room: str = "") -> Settings:
    """Return the settings of an Invoke context.

    Args:
        context: an ``invoke.Context`` (or ``MockContext``); keys it lacks have their defaults.
        on: the task's own ``--on``; it wins over every other way to name the place.
        room: the runtime whose place is meant; else the one that the context names under ``room``, else containerd.

    The place is ``on``, else the configured ``node``, and while that is ``auto`` the place
    that the last set-up of this runtime recorded.

    Raises:
        UsageError: a value that cannot be read.
    """
    given: Mapping[str, Any] = context.config
    registry: Mapping[str, Any] = given.get("registry") or {}
    default = Settings(cache=values.path(given, "cache", None) or default_cache())
    state = values.path(given, "state", default.state)
    node = on or values.text(given, "node", default.node)
    room = room or str(given.get("room") or default.room)
    return Settings(
        node=recorded_place(state, room) or node if node == "auto" else node,
        room=room,
        state=state,
        cache=default.cache,
        policy=values.path(given, "policy", default.policy),
        keys=values.path(given, "keys", default.keys),
        policy_key=values.text(given, "policy_key", ""),
        policy_keys=_policy_keys(given),
        registry=RegistrySettings(
            docker_config=values.path(registry, "docker_config", None),
            allow_http=values.switch(registry, "allow_http", "registry."),
            proof_image=str(registry.get("proof_image") or ""),
            credential_providers=values.text(registry, "credential_providers", "", "registry."),
            credential_provider_bin_dir=values.text(registry, "credential_provider_bin_dir", "", "registry."),
        ),
        signing=_signing(given.get("signing") or {}),
        kind=places.kind(given.get("kind") or {}),
        crio=places.crio(given.get("crio") or {}),
        vagrant=places.vagrant(given.get("vagrant") or {}),
        notation=notation_settings(given.get("notation") or {}, ROOT),
        tests=_tests(given.get("tests") or {}),
        tools=tool_settings(given.get("tools") or {}, ROOT),
        offline=values.switch(given, "offline"),
        environment=os.environ,
        sudo_password=str((given.get("sudo") or {}).get("password") or ""),
    )


def recorded_place(state: Path, room: str = "containerd") -> str:
    """Return the place that a runtime's set-up recorded in this state folder, or an empty text."""
    try:
        return _place_file(state, room).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        do = "remove it, and name the place: --on, or the next set-up"
        raise UsageError("is not text", where=str(_place_file(state, room)), expected="a place", do=do) from None
    except NotADirectoryError:
        raise UsageError(
            "is not a folder", where=f"state: {state}", do="set INVOKE_STATE to a folder of yours"
        ) from None


def record_place(state: Path, place: str, room: str = "containerd") -> None:
    """Make ``place`` the one that a runtime's later tasks use; an empty text forgets it."""
    file = _place_file(state, room)
    if not place:
        file.unlink(missing_ok=True)
        return
    state.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{place}\n", encoding="utf-8")


def _place_file(state: Path, room: str) -> Path:
    return state / ("place" if room == "containerd" else f"place-{room}")


def _policy_keys(given: Mapping[str, Any]) -> tuple[Path, ...]:
    names = [name.strip() for name in values.text(given, "policy_keys", "").split(",") if name.strip()]
    if names and not given.get("policy_key"):
        raise UsageError(
            f"got {', '.join(names)}",
            where="policy_keys",
            expected="policy_key beside it: a policy that nobody signs would be taken by no gate",
            do="set policy_key to the private key of one of them",
        )
    return tuple(values.path({"policy_keys": name}, "policy_keys", None) for name in names)


def _signing(given: Mapping[str, Any]) -> SigningSettings:
    paths = ("password_file", "certificate", "certificate_chain", "trust_config")
    return SigningSettings(
        **{key: values.path(given, key, None) for key in paths},
        recursive=values.switch({"recursive": SigningSettings.recursive, **given}, "recursive", "signing."),
        timestamp_server=values.text(given, "timestamp_server", "", "signing."),
    )


def _tests(given: Mapping[str, Any]) -> CheckSettings:
    default = CheckSettings()
    return CheckSettings(**{key: str(given.get(key) or getattr(default, key)) for key in asdict(default)})
