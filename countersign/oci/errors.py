"""What can go wrong with a registry, each with its reason code."""

from __future__ import annotations

from countersign.console.errors import InfrastructureError, UsageError


class RegistryError(InfrastructureError):
    """The registry answered, and the answer is an error or nonsense."""

    code = "REGISTRY_ERROR"


class RegistryUnreachable(RegistryError):
    """The registry did not answer: refused, no such name, TLS failure, out of time."""

    code = "NO_EVIDENCE_OFFLINE"


class RegistryAuth(RegistryError):
    """The registry wants other credentials (401, 403), or they could not be had."""

    code = "REGISTRY_AUTH"


class Tampered(RegistryError):
    """Bytes contradict the digest that they were asked by."""

    code = "TAMPERED"


class Malformed(RegistryError):
    """A manifest, index or blob cannot be parsed or is over a bound."""

    code = "MALFORMED"


class NotFound(UsageError):
    """The registry has no such repository, manifest or blob."""

    code = "REGISTRY_ERROR"


class BadConfig(UsageError):
    """A hosts.toml or Docker config cannot be used as it stands."""

    code = "REGISTRY_ERROR"
