"""What the tasks begin with: the project, what its stages work with, and who signs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.console.config import Settings
    from release.flow import Work
    from release.model import Project
    from release.signer import Signer
    from signing.notary import Notary


def project(path: str) -> Project:
    """Return the project of a release.yaml (empty: this repository's), after telling all but the first problem.

    Raises:
        ReleaseInvalid: with all that is wrong in it.
    """
    from countersign.console import output
    from countersign.console.config import ROOT
    from release.load import FILE, ReleaseInvalid, load

    try:
        named = Path(path).expanduser() if path else ROOT
        return load(named / FILE if named.is_dir() else named)
    except ReleaseInvalid as err:
        for each in err.problems[1:]:
            output.say(f"error: {each}")
        raise


def work(context: Context, version: str, path: str, *, registry: str = "", key: str = "", identity: str = "") -> Work:
    """Return what the stages work with; keys and tokens are only opened by the stage that signs.

    Args:
        context: the configuration.
        version: empty for the project's own.
        path: the project's release.yaml; empty for this repository's.
        registry: what image names begin with; empty for the project's.
        key: the private key; empty for the project's.
        identity: a file with a token; empty for what CI offers, where the project signs by identity.

    Raises:
        UsageError: the project or the version cannot be used.
    """
    import os

    from countersign.console.config import settings_from
    from countersign.console.errors import UsageError
    from release import flow, names
    from release import version as versions
    from release.scan import Databases

    found = project(path)
    wanted = versions.check(version) if version else versions.own(found)
    workflow = os.environ.get("GITHUB_WORKFLOW_REF", "")
    builder = f"https://github.com/{workflow}" if workflow else f"{found.source}/built-by-hand"
    if registry and (wrong := names.wrong_registry(registry)):
        raise UsageError(wrong, where="--registry")
    base = registry.rstrip("/") or found.registry
    databases = Databases(os.environ.get("GOVULNDB") or Databases().go)
    settings = settings_from(context)
    return flow.Work(
        settings, found, wanted, base, builder, lambda: _signer(settings, found, key, identity), databases,
        notary=lambda: notary(settings, found),
    )  # fmt: skip


def notary(settings: Settings, project: Project) -> Notary:
    """Return who signs in the format notation: a plugin, where one is configured, else the key beside the certificate.

    Raises:
        CountersignError: there is no such key, or it is not that certificate's.
    """
    from release import signer
    from signing import notary_options

    if project.notary is None:
        return signer.nobody()
    certificate = project.notary.certificate
    return notary_options.signer(settings, str(certificate.with_suffix(".key")), str(certificate), None)


def _signer(settings: Settings, project: Project, key: str, identity: str) -> Signer:
    import os

    from countersign.console.errors import UsageError
    from countersign.keys.source import private_key
    from release.signer import ByIdentity, ByKey

    if key and identity:
        raise UsageError("got both", where="--key, --identity", expected="one of them")
    if identity or (project.identity and not key):
        from signing import identity as identities

        opening = partial(identities.open_config, settings.signing.trust_config, offline=settings.offline)
        token = identities.token(opening, Path(identity).expanduser() if identity else None)
        return ByIdentity(identities.ByIdentity(opening(), token))
    return ByKey(private_key(key or str((project.key or Path()).with_suffix(".key")), os.environ))
