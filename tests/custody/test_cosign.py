"""cosign and we share a token: each verifies what the other has signed with the key in it, in both formats."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from invoke.context import MockContext

from countersign.console.config import Settings
from countersign.console.errors import CountersignError
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.tools.resolver import tool
from signing import commands
from signing.stored import FORMATS, Format
from signing.verify import Access, by_keys, program, verify
from tests.custody.conftest import PIN, Hsm
from tests.images import push_image
from tests.interop.conftest import ATTACHMENT, OFFLINE

HOW: dict[Format, tuple[str, ...]] = {"attachment": ATTACHMENT, "bundle": OFFLINE}
VERIFY: dict[Format, str] = {"attachment": "--new-bundle-format=false", "bundle": "--new-bundle-format=true"}
KINDS = ("ec", "rsa")


@pytest.fixture(scope="module")
def cosign(settings: Settings) -> Path:
    """The real cosign with keys in tokens; where it can't be built, that is said."""
    if not (shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("no C compiler: a cosign that is linked statically loads no PKCS #11 library")
    try:
        return tool("cosign-pkcs11", settings)
    except CountersignError as err:
        pytest.skip(f"no cosign with PKCS #11: {err}")


@dataclass(frozen=True)
class Shared:
    """A token that cosign and we use, in a folder of the test's own."""

    cosign: Path
    hsm: Hsm
    context: MockContext
    folder: Path

    def ours(self, kind: str) -> str:
        """Return a key's URI as we take it."""
        return self.hsm.uri(kind, self.folder / "pin")

    def theirs(self, kind: str) -> str:
        """Return it as cosign wants it: with its ID."""
        number = KINDS.index(kind) + 1
        return f"pkcs11:token=custody;object={kind};id=%0{number}?module-path={self.hsm.module}"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run cosign, without any configuration of the user."""
        home = {"HOME": str(self.folder), "DOCKER_CONFIG": str(self.folder), "PATH": os.environ["PATH"]}
        environment = {**home, "COSIGN_PKCS11_PIN": PIN, "SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}
        argv = [str(self.cosign), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def token(cosign: Path, hsm: Hsm, context: MockContext, tmp_path: Path) -> Shared:
    (tmp_path / "pin").write_text(PIN)
    return Shared(cosign, hsm, context, tmp_path)


@pytest.fixture
def public(token: Shared, capsys: pytest.CaptureFixture[str]) -> Mapping[str, Path]:
    """The public half of each key, in a file."""
    found = {kind: token.folder / f"{kind}.pub" for kind in KINDS}
    for kind, path in found.items():
        commands.public_key(token.context, key=token.ours(kind))
        path.write_text(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", FORMATS)
def test_we_verify_what_cosign_signs_with_a_token(
    settings: Settings, token: Shared, public: Mapping[str, Path], netloc: str, chosen: Format, kind: str
) -> None:
    ref = parse(f"{netloc}/token/theirs-{chosen}-{kind}:v1")
    target = push_image(Registry(), ref.name, "v1", ref.name)
    how = ("--yes", "--key", token.theirs(kind), *HOW[chosen], "--allow-http-registry")
    done = token.run("sign", *how, str(ref.at(target.digest)))
    assert done.returncode == 0, done.stderr
    found = {one: verify(program(settings), str(ref), by_keys([public[one]]), Access()) for one in KINDS}
    assert (found[kind]["code"], found[kind]["format"]) == ("OK", chosen)
    assert found[other(kind)]["code"] == "BAD_SIGNATURE"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", FORMATS)
def test_cosign_verifies_what_we_sign_with_a_token(
    token: Shared, public: Mapping[str, Path], netloc: str, chosen: Format, kind: str
) -> None:
    ref = parse(f"{netloc}/token/ours-{chosen}-{kind}:v1")
    target = push_image(Registry(), ref.name, "v1", ref.name)
    commands.sign(token.context, [str(ref)], key=token.ours(kind), format=chosen)
    how = ("--insecure-ignore-tlog", VERIFY[chosen], "--allow-http-registry")
    given = f"&pin-value={PIN}"  # to verify, cosign takes it from nowhere else
    for key in (token.theirs(kind) + given, str(public[kind])):
        done = token.run("verify", *how, "--key", key, str(ref.at(target.digest)))
        assert done.returncode == 0, done.stderr
    done = token.run("verify", *how, "--key", token.theirs(other(kind)) + given, str(ref.at(target.digest)))
    assert re.search("no matching signatures|failed to verify signature|invalid signature", done.stderr), done.stderr


def other(kind: str) -> str:
    return KINDS[1 - KINDS.index(kind)]
