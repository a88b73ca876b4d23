"""Whether an image is signed: the gate's engine says so, in a process of its own (``countersign-gate verify``).

Python verifies no signature but the signer's own (``signing.sign``). Codes, steps and members of a verdict are those of
the gate on a node (``countersign.verdict/v1``).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.oci import credentials
from countersign.oci.access import docker_configs, hosts_folder
from countersign.oci.errors import BadConfig
from countersign.tools.build import BuildFailed
from countersign.tools.resolver import tool

PROGRAM = "countersign-gate"
_REFUSED = 1
_USAGE = 2
_SECONDS = 60  # the program's own bound is half of it
_FILE_LIMIT = 1 << 20  # bytes

NO_ANSWER = frozenset({"REGISTRY_ERROR", "REGISTRY_AUTH", "NO_EVIDENCE_OFFLINE", "TIMEOUT", "MALFORMED"})
"""Codes that say nothing of who has signed."""

Verdict = Mapping[str, Any]


@dataclass(frozen=True)
class Access:
    """How registries are reached.

    Attributes:
        certs_dir: a folder of ``HOST/hosts.toml``, or None.
        docker_configs: files with logins; what an earlier one has goes before a later one's.
        layout: an image layout that has image and signatures: then no registry is asked, and the rest is not used.
    """

    certs_dir: Path | None = None
    docker_configs: Sequence[Path] = ()
    layout: Path | None = None


def program(settings: Settings) -> Path:
    """Return the gate's program, built first if need be.

    Raises:
        MissingError: it is not there and cannot be built.
    """
    try:
        return tool(PROGRAM, settings)
    except (BuildFailed, MissingError) as error:
        do = f"build it: ./inv tools.install --name {PROGRAM}"
        raise MissingError(str(error), where=PROGRAM, expected="the gate's program, which verifies", do=do) from error


def usual_key(settings: Settings) -> Path:
    """Return the public key that counts where none is named.

    Raises:
        UsageError: there is none yet.
    """
    key = settings.keys / "cosign.pub"
    if not key.exists():
        do = "name one with --key, or make a pair: ./inv signing.keys"
        raise UsageError("there is no such file", where=str(key), expected="a public key", do=do)
    return key


def access(settings: Settings, layout: str = "") -> Access:
    """Return how registries are reached: as the configured place does, or a layout that the user named."""
    if layout:
        return Access(layout=Path(layout).expanduser())
    return Access(hosts_folder(settings), docker_configs(settings))


def going_by(settings: Settings, policy: str, keys: Sequence[str]) -> list[str]:
    """Return what an image is judged by: a rendered policy, else any of these public keys, else the usual one.

    Raises:
        UsageError: both are named, or there is no usual key.
    """
    if policy and keys:
        raise UsageError("got both", where="--key, --policy", expected="one of them")
    if policy:
        return by_policy(Path(policy).expanduser())
    return by_keys([Path(one).expanduser() for one in keys] or [usual_key(settings)])


def by_keys(keys: Sequence[Path]) -> list[str]:
    """Return the options that want a signature by any of these public keys."""
    return [option for key in keys for option in ("--key", str(key))]


def by_policy(policy: Path) -> list[str]:
    """Return the options that want what a rendered policy wants."""
    return ["--policy", str(policy)]


def look_at(program: Path, policy: str, key: Sequence[str]) -> None:
    """Look at what images are to be judged by, before anything is done that the gate's program is to judge.

    Raises:
        UsageError: a key is no public key, or the policy is no rendered one.
    """
    from countersign.keys.pair import load_public

    for one in () if policy else key:
        load_public(Path(one).expanduser())
    if not policy:
        return
    argv = [str(program), "check-policy", str(Path(policy).expanduser())]
    done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()).partition("; ")[0]
        do = "policy.yaml becomes a policy of a gate by ./inv policy.render --engine gate --out FILE"
        raise UsageError(said.removeprefix("error: check-policy: "), where="--policy", do=do)


def verify(program: Path, image: str, going_by: Sequence[str], access: Access) -> Verdict:
    """Have the gate's engine decide on one image.

    Args:
        going_by: ``by_keys`` or ``by_policy``.

    Returns:
        the verdict with its steps.

    Raises:
        UsageError: if the keys, the policy or the layout cannot be used.
        BadConfig: if a Docker config cannot be used.
        InfrastructureError: if there was no verdict.
    """
    return _verdict(run(program, ["verify", "--json", *going_by], image, access), image)


def run(program: Path, words: Sequence[str], image: str, access: Access) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the gate's program on one image; what it writes meanwhile goes away.

    Raises:
        BadConfig: if a Docker config cannot be used.
        InfrastructureError: if it does not end in time.
    """
    with ExitStack() as stack:
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="countersign-")))
        argv = [str(program), *words]
        if access.layout:
            argv += ["--layout", str(access.layout)]
        elif access.certs_dir:
            argv += ["--certs-dir", str(access.certs_dir)]
        if access.docker_configs and not access.layout:
            logins = private / "config.json"
            logins.touch(mode=0o600)
            logins.write_text(json.dumps(_merged(access.docker_configs)))
            argv += ["--docker-config", str(logins)]
        environment = os.environ | {"TMPDIR": str(private)}
        argv += ["--", image]
        try:
            return subprocess.run(argv, env=environment, capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise InfrastructureError(f"no answer in {_SECONDS} s", where=image, do="try again") from error


def _verdict(done: subprocess.CompletedProcess[bytes], image: str) -> Verdict:
    """Read what the program wrote."""
    if done.returncode in (0, _REFUSED):
        try:
            found = json.loads(done.stdout)
        except ValueError:
            found = None
        if isinstance(found, dict) and found.get("allow") is (done.returncode == 0):
            return found
    raise failure(done, image)


def failure(done: subprocess.CompletedProcess[bytes], image: str) -> UsageError | InfrastructureError:
    """Return what to raise where the program did not do what it was asked."""
    said = done.stderr.decode(errors="replace").strip().removeprefix("error: ").removeprefix(f"{done.args[1]}: ")
    if done.returncode == _USAGE:
        return UsageError(said)
    return InfrastructureError(said or f"{PROGRAM} ended with {done.returncode} and no verdict", where=image)


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Return several Docker configs as one; an earlier file's entry goes before a later one's."""
    merged: dict[str, Any] = {}
    auths: dict[str, Any] = {}
    for path in reversed(paths):
        document = _read(path)
        merged |= document
        auths |= document.get("auths") or {}
    return merged | {"auths": auths}


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
        document = credentials.document(content) if len(content) <= _FILE_LIMIT else None
    except OSError as error:
        raise BadConfig(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("auths") or {}, dict):
        raise BadConfig(
            "is not a Docker config", where=str(path), expected=f'{{"auths": …}} of at most {_FILE_LIMIT} bytes'
        )
    return document
