"""What a user can set: invoke.yaml, ``INVOKE_*`` and ``--on``, read into one typed value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from countersign.console.errors import UsageError
from countersign.console.notation import NotationSettings, notation_settings
from countersign.console.tooling import ToolSettings, tool_settings

ROOT = Path(__file__).resolve().parents[2]
"""The repository: relative paths in the configuration count from here."""

MOST_WORKERS = 20
PROVIDERS = ("libvirt", "virtualbox", "lxc")
DISTRIBUTIONS = ("ubuntu", "debian", "rocky")
_MACHINE = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_CLUSTER = re.compile(r"[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?")


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
class KindSettings:
    """The cluster of the place ``kind``.

    Attributes:
        workers: how many nodes beside the control plane.
        image: a node image such as ``kindest/node:v1.37.0``; empty means kind's own, or one that is built here.
        engine: the Docker Engine, as a value of ``DOCKER_HOST``; empty means the one that answers.
        preinstalled: nodes refuse what is not signed before their containerd starts for the first time.
    """

    cluster: str = "countersign"
    workers: int = 1
    image: str = ""
    engine: str = ""
    preinstalled: bool = True


@dataclass(frozen=True)
class CrioSettings:
    """CRI-O.

    Attributes:
        binary: a CRI-O program on this machine, with ``pinns`` beside it; ``CRIO_BIN`` says the same.
        engine: ``strict`` lets CRI-O's own engine refuse what it cannot verify; ``lenient`` leaves that to the gate.
    """

    binary: Path | None = None
    engine: str = "strict"


@dataclass(frozen=True)
class VagrantSettings:
    """The machine of the place ``vagrant``.

    Attributes:
        provider: ``libvirt``, ``virtualbox`` or ``lxc``; empty means the first of them that works here.
        box: a box of the catalogue; ``built`` is the one that ``vagrant.box`` makes; empty means the
            distribution's public one (with lxc: the built one).
        machine: its name; several names are several machines.
        distribution: ``ubuntu`` (24.04), ``debian`` (12) or ``rocky`` (9), where no box is named.
        memory: MiB of a virtual machine.
        cpus: of a virtual machine.
        bridge: for lxc, a bridge with DHCP that is there already; empty means one of our own, without a way out.
    """

    provider: str = ""
    box: str = ""
    machine: str = "countersign"
    distribution: str = "ubuntu"
    memory: int = 2048
    cpus: int = 2
    bridge: str = ""


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
    """

    turn: str = "all"
    guards: str = "8"
    fuzz: str = "10"
    starts: str = "60"


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
    kind: KindSettings = KindSettings()
    crio: CrioSettings = CrioSettings()
    vagrant: VagrantSettings = VagrantSettings()
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
    default = Settings(cache=_path(given, "cache", None) or default_cache())
    state = _path(given, "state", default.state)
    node = on or _text(given, "node", default.node)
    room = room or str(given.get("room") or default.room)
    return Settings(
        node=recorded_place(state, room) or node if node == "auto" else node,
        room=room,
        state=state,
        cache=default.cache,
        policy=_path(given, "policy", default.policy),
        keys=_path(given, "keys", default.keys),
        policy_key=_text(given, "policy_key", ""),
        policy_keys=_policy_keys(given),
        registry=RegistrySettings(
            docker_config=_path(registry, "docker_config", None),
            allow_http=_switch(registry, "allow_http", "registry."),
            proof_image=str(registry.get("proof_image") or ""),
            credential_providers=_text(registry, "credential_providers", "", "registry."),
            credential_provider_bin_dir=_text(registry, "credential_provider_bin_dir", "", "registry."),
        ),
        signing=_signing(given.get("signing") or {}),
        kind=_kind(given.get("kind") or {}),
        crio=_crio(given.get("crio") or {}),
        vagrant=_vagrant(given.get("vagrant") or {}),
        notation=notation_settings(given.get("notation") or {}, ROOT),
        tests=_tests(given.get("tests") or {}),
        tools=tool_settings(given.get("tools") or {}, ROOT),
        offline=_switch(given, "offline"),
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
    names = [name.strip() for name in _text(given, "policy_keys", "").split(",") if name.strip()]
    if names and not given.get("policy_key"):
        raise UsageError(
            f"got {', '.join(names)}",
            where="policy_keys",
            expected="policy_key beside it: a policy that nobody signs would be taken by no gate",
            do="set policy_key to the private key of one of them",
        )
    return tuple(_path({"policy_keys": name}, "policy_keys", None) for name in names)


def _signing(given: Mapping[str, Any]) -> SigningSettings:
    paths = ("password_file", "certificate", "certificate_chain", "trust_config")
    return SigningSettings(
        **{key: _path(given, key, None) for key in paths},
        recursive=_switch({"recursive": SigningSettings.recursive, **given}, "recursive", "signing."),
        timestamp_server=_text(given, "timestamp_server", "", "signing."),
    )


def _kind(given: Mapping[str, Any]) -> KindSettings:
    default = KindSettings()
    name, workers = _text(given, "cluster", default.cluster, "kind."), str(given.get("workers", default.workers))
    if not _CLUSTER.fullmatch(name):
        raise UsageError(f"got {name!r}", where="kind.cluster", expected="lower-case letters, digits, dots and dashes")
    if not _NUMBER.fullmatch(workers) or int(workers) > MOST_WORKERS:
        raise UsageError(f"got {workers!r}", where="kind.workers", expected=f"a number from 0 to {MOST_WORKERS}")
    return KindSettings(
        name,
        int(workers),
        _text(given, "image", "", "kind."),
        _text(given, "engine", "", "kind."),
        preinstalled=_switch({"preinstalled": default.preinstalled, **given}, "preinstalled", "kind."),
    )


def _crio(given: Mapping[str, Any]) -> CrioSettings:
    engine = _text(given, "engine", CrioSettings.engine, "crio.")
    if engine not in ("strict", "lenient"):
        raise UsageError(f"got {engine!r}", where="crio.engine", expected="strict or lenient")
    return CrioSettings(_path({"binary": given.get("binary") or os.environ.get("CRIO_BIN")}, "binary", None), engine)


def _vagrant(given: Mapping[str, Any]) -> VagrantSettings:
    default = VagrantSettings()
    texts = {key: _text(given, key, getattr(default, key), "vagrant.") for key in ("provider", "box", "bridge")}
    machine = _text(given, "machine", default.machine, "vagrant.")
    if not _MACHINE.fullmatch(machine):
        raise UsageError(
            f"got {machine!r}", where="vagrant.machine", expected="up to 30 lower-case letters, digits and dashes"
        )
    if texts["provider"]:
        _one_of(texts["provider"], "vagrant.provider", PROVIDERS)
    distribution = _text(given, "distribution", default.distribution, "vagrant.")
    return VagrantSettings(
        **texts,
        machine=machine,
        distribution=_one_of(distribution, "vagrant.distribution", DISTRIBUTIONS),
        memory=_number(given.get("memory") or default.memory, "vagrant.memory", 512),
        cpus=_number(given.get("cpus") or default.cpus, "vagrant.cpus", 1),
    )


def _tests(given: Mapping[str, Any]) -> CheckSettings:
    default = CheckSettings()
    return CheckSettings(**{key: str(given.get(key) or getattr(default, key)) for key in asdict(default)})


def _one_of(value: str, where: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"got {value!r}", where=where, expected=f"one of {', '.join(known)}")
    return value


def _number(value: object, where: str, least: int) -> int:
    text = str(value)
    if not _NUMBER.fullmatch(text) or int(text) < least:
        raise UsageError(f"got {text!r}", where=where, expected=f"a number, {least} or more")
    return int(text)


def _path(given: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return the absolute path under ``key``, or the default when it is unset or empty."""
    value = given.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise UsageError(f"got {value!r}", where=key, expected="a path, as text")
    try:
        return ROOT / Path(value).expanduser()
    except RuntimeError as error:
        raise UsageError(str(error), where=f"{key}: {value}", do="give an absolute path") from None


def _text(given: Mapping[str, Any], key: str, default: str, group: str = "") -> str:
    """Return the text under ``key``, or the default when it is unset or empty."""
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"got {value!r}", where=f"{group}{key}", expected="text (in a file: in quotes)")
    return value or default


def _switch(given: Mapping[str, Any], key: str, group: str = "") -> bool:
    """Return a yes/no value; Invoke itself would read ``INVOKE_X=false`` as true."""
    value = given.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower()
    if text in {"1", "yes", "true", "on"}:
        return True
    if text in {"", "0", "no", "false", "off"}:
        return False
    raise UsageError(f"got {value!r}", where=group + key, expected="yes or no")
