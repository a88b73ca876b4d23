"""Notation's signing plugins, contract 1.0 (notaryproject/specifications, ``plugin-extensibility.md``).

A plugin is a program ``notation-NAME``, started once a command: its first argument is the command, a JSON request is
its input and a JSON response its output. What it answers is held against what it was asked before anything counts.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.oci.descriptor import Descriptor
from signing import notary, notation
from signing.notary import Notary, Options

_CONTRACT = "1.0"
_RAW, _ENVELOPE = "SIGNATURE_GENERATOR.RAW", "SIGNATURE_GENERATOR.ENVELOPE"
_LIMIT = 1 << 20  # bytes of output
_NAME_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HASHES = {"256": "SHA-256", "384": "SHA-384", "512": "SHA-512"}
_HEAD = 200  # characters of what a plugin says
_LOOK = 0.05  # seconds between looks at whether it has ended


class BadPlugin(InfrastructureError):
    """A plugin failed, or answered something else than it was asked."""


@dataclass(frozen=True)
class Plugin:
    """One plugin.

    Attributes:
        name: without ``notation-``.
        key_id: which of its keys signs.
        config: for the plugin alone.
        seconds: how long it may take for a command.
    """

    name: str
    program: Path
    key_id: str
    config: Mapping[str, str] = field(default_factory=dict)
    seconds: int = 60


def find(name: str) -> Path:
    """Return the program of a plugin, from where notation installs them.

    Raises:
        UsageError: that is not a plugin's name.
        MissingError: it is not installed.
    """
    if not _NAME_RE.fullmatch(name):
        raise UsageError(f"got {name!r}", where="notation.plugin", expected="a plugin's name, without notation-")
    base = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(base) if Path(base).is_absolute() else Path("~/.config").expanduser()
    program = config / "notation" / "plugins" / name / f"notation-{name}"
    if not os.access(program, os.X_OK) or not program.is_file():
        raise MissingError(
            f"there is no program {program}",
            where=f"notation.plugin: {name}",
            do=f"install it there, executable, or: notation plugin install --file notation-{name}",
        )
    return program


def signer(plugin: Plugin, options: Options) -> Notary:
    """Return a plugin as one who signs: asked what it can, and nothing signed yet.

    Raises:
        BadPlugin: it is not a signing plugin of contract 1.0, or has no such key.
    """
    metadata = _call(plugin, "get-plugin-metadata", {})
    _expect(plugin, "name", metadata.get("name"), plugin.name)
    _expect_in(plugin, _CONTRACT, metadata.get("supportedContractVersions"), "supportedContractVersions")
    capabilities = metadata.get("capabilities")
    agent = f"{notary.AGENT} {plugin.name}/{str(metadata.get('version', ''))[:32]}"
    about = f"plugin {plugin.name}, key {plugin.key_id}"
    if isinstance(capabilities, list) and _ENVELOPE in capabilities and _RAW not in capabilities:
        return Notary(about, lambda target: _envelope(plugin, target, options), options)
    _expect_in(plugin, _RAW, capabilities, "capabilities")
    described = _call(plugin, "describe-key", {"keyId": plugin.key_id})
    _expect(plugin, "keyId", described.get("keyId"), plugin.key_id)
    spec = described.get("keySpec")
    if not isinstance(spec, str) or spec not in notation.ALGORITHMS:
        raise _bad(plugin, f"keySpec is {_shown(spec)}", f"one of {', '.join(notation.ALGORITHMS)}")
    return Notary(about, lambda target: _raw(plugin, target, spec, agent, options), options)


def _raw(plugin: Plugin, target: Descriptor, spec: str, agent: str, options: Options) -> bytes:
    """Have the plugin sign an envelope that is made here."""
    attributes, payload = notary.attributes_of(spec, options), notation.payload(target)
    signed = notation.to_sign(attributes, payload)
    algorithm = notation.ALGORITHMS[spec]
    digest = _HASHES[algorithm[2:]]
    request = {"keyId": plugin.key_id, "keySpec": spec, "hashAlgorithm": digest, "payload": _b64(signed)}
    answer = _call(plugin, "generate-signature", request)
    _expect(plugin, "keyId", answer.get("keyId"), plugin.key_id)
    family = "RSASSA-PSS" if algorithm.startswith("PS") else "ECDSA"
    _expect(plugin, "signingAlgorithm", answer.get("signingAlgorithm"), f"{family}-{digest}")
    chain = answer.get("certificateChain")
    if not isinstance(chain, list) or not chain:
        raise _bad(plugin, f"certificateChain is {_shown(chain)}", "certificates, the signer's own first")
    der = [_bytes(plugin, "certificateChain", each) for each in chain]
    signature = _bytes(plugin, "signature", answer.get("signature"))
    found = notation.wrap(attributes, payload, signature, der, agent=agent)
    return _finished(plugin, found, target, options)


def _envelope(plugin: Plugin, target: Descriptor, options: Options) -> bytes:
    """Have the plugin make the whole envelope."""
    request: dict[str, Any] = {
        "keyId": plugin.key_id,
        "payloadType": notation.PAYLOAD_TYPE,
        "signatureEnvelopeType": notation.JWS_TYPE,
        "payload": _b64(notation.payload(target)),
    }
    if options.expiry:
        request["expiryDurationInSeconds"] = int(options.expiry.total_seconds())
    answer = _call(plugin, "generate-envelope", request)
    _expect(plugin, "signatureEnvelopeType", answer.get("signatureEnvelopeType"), notation.JWS_TYPE)
    found = _bytes(plugin, "signatureEnvelope", answer.get("signatureEnvelope"))
    if options.expiry and not notary.checked(found, target, f"plugin {plugin.name}").expiry:
        raise _bad(plugin, "the envelope has no expiry", "the one that was asked for")
    return _finished(plugin, found, target, options)


def _finished(plugin: Plugin, content: bytes, target: Descriptor, options: Options) -> bytes:
    """Check an envelope, and have it stamped where that is asked for."""
    found = notary.checked(content, target, f"plugin {plugin.name}")
    if options.timestamp is None:
        return content
    return notation.stamped(content, options.timestamp(found.signature))


def _call(plugin: Plugin, command: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run one command of a plugin.

    Raises:
        BadPlugin: it takes too long, fails, or answers no JSON object.
    """
    config = {"pluginConfig": dict(plugin.config)} if plugin.config else {}
    given = {"contractVersion": _CONTRACT, **request, **config} if request else config
    code, output, errors = _run(plugin, command, json.dumps(given).encode())
    if code:
        raise _bad(plugin, f"{command} failed with exit code {code}: {_reason(errors)}", "exit code 0")
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        text = output.decode(errors="replace")
        raise _bad(plugin, f"{command} answered {_shown(text)}", "a JSON object and nothing else")
    return answer


def _run(plugin: Plugin, command: str, given: bytes) -> tuple[int, bytes, bytes]:
    """Run the program in a session of its own, which ends with it; return exit code, output and errors."""
    with tempfile.TemporaryFile() as wanted:
        wanted.write(given)
        wanted.seek(0)
        try:
            process = subprocess.Popen(
                [str(plugin.program), command],
                stdin=wanted,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as err:
            raise _bad(plugin, f"cannot be started: {err.strerror}", "a program") from err
    with process:
        try:
            output, errors = _said(plugin, command, process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, errors


def _said(plugin: Plugin, command: str, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return what a program writes until it ends, within the bounds of bytes and time.

    What it leaves running may hold its output open; that is waited for no longer than for the program.
    """
    end = time.monotonic() + plugin.seconds
    streams = [each for each in (process.stdout, process.stderr) if each]
    said = {each.fileno(): bytearray() for each in streams}
    with selectors.DefaultSelector() as ready:
        for number in said:
            ready.register(number, selectors.EVENT_READ)
        while ready.get_map() or process.poll() is None:
            left = end - time.monotonic()
            if left <= 0:
                raise _bad(plugin, f"{command} took over {plugin.seconds} s", "an answer (notation.plugin_timeout)")
            if not ready.get_map():
                time.sleep(min(left, _LOOK))
                continue
            events = ready.select(min(left, _LOOK))
            if not events and process.poll() is not None:
                break
            for number in (key.fd for key, _ in events):
                part = os.read(number, _LIMIT)
                said[number] += part
                if not part:
                    ready.unregister(number)
                if len(said[number]) > _LIMIT:
                    raise _bad(plugin, f"{command} answered more than {_LIMIT} bytes", "less")
    output, errors = said.values()
    return bytes(output), bytes(errors)


def _reason(errors: bytes) -> str:
    """Return what a failed plugin says: the contract's error, or whatever it wrote."""
    text = errors.decode(errors="replace")
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(text)
        if isinstance(said, dict) and said.get("errorMessage"):
            text = f"{said.get('errorCode', '')} {said['errorMessage']}"
    return text.strip()[:_HEAD] or "it says nothing"


def _expect(plugin: Plugin, what: str, got: object, wanted: str) -> None:
    if got != wanted:
        raise _bad(plugin, f"{what} is {_shown(got)}", repr(wanted))


def _expect_in(plugin: Plugin, wanted: str, got: object, what: str) -> None:
    if not isinstance(got, list) or wanted not in got:
        raise _bad(plugin, f"{what} are {_shown(got)}", f"{wanted} among them")


def _bytes(plugin: Plugin, what: str, text: object) -> bytes:
    try:
        found = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error):
        found = b""
    if not found:
        raise _bad(plugin, f"{what} is {_shown(text)}", "base64")
    return found


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _shown(value: object) -> str:
    return repr((value if isinstance(value, str) else json.dumps(value))[:_HEAD])


def _bad(plugin: Plugin, found: str, expected: str) -> BadPlugin:
    return BadPlugin(found, where=f"plugin {plugin.name}", expected=expected, do="nothing was pushed")
