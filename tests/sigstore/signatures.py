"""Who signs, and who reads: each a function over a scene, so that every pair can be tried."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sigstore.dsse import DigestSet, StatementBuilder, Subject
from sigstore.errors import VerificationError
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from countersign.console.config import Settings
from countersign.oci.descriptor import Descriptor
from countersign.policy import gate
from countersign.policy.load import load
from signing import bundle, identity, sign, stored
from signing.stack import token
from signing.stack.place import Stack
from signing.stored import Format
from signing.verify import Verdict, by_policy, program, verify
from tests.images import push_image
from tests.interop.conftest import Cosign, Lab

MAIL = "release@acme.example"
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"


@dataclass(frozen=True)
class Expected:
    """Whose signature a reader wants.

    Attributes:
        subject: the identity.
        issuer: who vouches for it.
        root: a trusted_root.json.
    """

    subject: str
    issuer: str
    root: Path


@dataclass(frozen=True)
class Scene:
    """An image in a registry, a private Sigstore, and the programs that sign and read.

    Attributes:
        name: the image's repository.
        image: what is signed.
        folder: for files of this scene.
    """

    stack: Stack
    lab: Lab
    cosign: Cosign
    settings: Settings
    name: str
    image: Descriptor
    folder: Path

    @classmethod
    def fresh(cls, stack: Stack, lab: Lab, cosign: Cosign, settings: Settings, folder: Path) -> Scene:
        """Return a scene with an image of its own."""
        name = f"{lab.netloc}/sigstore/{uuid.uuid4().hex}"
        return cls(stack, lab, cosign, settings, name, push_image(lab.client, name, "v1", name), folder)

    @property
    def ref(self) -> str:
        """The image by digest."""
        return f"{self.name}@{self.image.digest}"

    def expects(self, subject: str) -> Expected:
        """Return what is true of a signature by this subject."""
        issuer = self.stack.workflow_issuer if subject.startswith("https:") else self.stack.mail_issuer
        return Expected(subject, issuer, self.stack.trusted_root)

    def token(self, subject: str) -> Path:
        """Write an identity token."""
        path = self.folder / "token"
        path.write_text(token.mint(self.stack, subject))
        return path


def cosign_bundle(scene: Scene, subject: str) -> None:
    """Sign as cosign 3 does: a bundle, with Rekor v2 and a timestamp."""
    config = ("--signing-config", str(scene.stack.signing_config), "--trusted-root", str(scene.stack.trusted_root))
    _cosign_sign(scene, subject, *config)


def cosign_attachment(scene: Scene, subject: str) -> None:
    """Sign as cosign 1 and 2 did, by cosign 3's deprecated options: an attachment, with Rekor v1."""
    urls = ("--fulcio-url", scene.stack.url("fulcio"), "--rekor-url", scene.stack.url("rekor-v1"))
    old = ("--new-bundle-format=false", "--use-signing-config=false")
    _cosign_sign(scene, subject, *old, *urls, "--trusted-root", str(scene.stack.trusted_root))


def _cosign_sign(scene: Scene, subject: str, *how: str) -> None:
    given = ("--yes", "--identity-token", str(scene.token(subject)))
    done = scene.cosign.run("sign", *given, *how, *scene.lab.flags, scene.ref)
    assert done.returncode == 0, done.stderr


def python_bundle(scene: Scene, subject: str) -> None:
    """Sign with sigstore-python what cosign signs, and hang the bundle on the image."""
    config = ClientTrustConfig.from_json(scene.stack.trust_config.read_text())
    statement = (
        StatementBuilder()
        .subjects([Subject(name="", digest=DigestSet(root={"sha256": scene.image.digest.removeprefix("sha256:")}))])
        .predicate_type(bundle.PREDICATE_TYPE)
        .predicate({})
        .build()
    )
    identity = IdentityToken(scene.token(subject).read_text(), "sigstore")
    with SigningContext.from_trust_config(config).signer(identity) as signer:
        signed = signer.sign_dsse(statement)
    stored.add_bundle(scene.lab.client, scene.name, scene.image, signed.to_json().encode())


def our_bundle(scene: Scene, subject: str) -> None:
    """Sign as ``signing.sign --identity TOKEN --format bundle`` does."""
    _sign(scene, subject, "bundle")


def our_attachment(scene: Scene, subject: str) -> None:
    """Sign as ``signing.sign --identity TOKEN --format attachment`` does."""
    _sign(scene, subject, "attachment")


def _sign(scene: Scene, subject: str, chosen: Format) -> None:
    config = identity.open_config(scene.stack.trust_config)
    signer = identity.ByIdentity(config, identity.token(lambda: config, scene.token(subject)))
    done = sign.sign(scene.lab.client, scene.name, scene.image, signer, [chosen])
    assert done.added == [chosen]


def gate_says(scene: Scene, expected: Expected) -> Verdict:
    """Return the verdict of ``countersign-gate verify`` by a policy with one keyless root."""
    root = {"issuer": expected.issuer, "subject": expected.subject, "trustedRoot": str(expected.root)}
    written = scene.folder / "policy.yaml"
    document = {
        "apiVersion": "countersign/v1",
        "default": "reject",
        "roots": {"signer": {"keyless": root}},
        "scopes": {scene.name: {"anyOf": ["signer"]}},
    }
    written.write_text(json.dumps(document))
    rendered = scene.folder / "policy.json"
    rendered.write_bytes(gate.render(load(written)))
    return verify(program(scene.settings), f"{scene.name}:v1", by_policy(rendered), scene.lab.access)


def gate_reads(scene: Scene, expected: Expected) -> str:
    """Return why the gate refuses; empty if it does not."""
    verdict = gate_says(scene, expected)
    return "" if verdict["allow"] else str(verdict["code"])


def cosign_reads(scene: Scene, expected: Expected) -> str:
    """Return why cosign refuses; empty if it does not."""
    who = ("--certificate-identity", expected.subject, "--certificate-oidc-issuer", expected.issuer)
    words = ("verify", *who, "--trusted-root", str(expected.root), *scene.lab.flags, scene.ref)
    done = scene.cosign.run(*words)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def python_reads(scene: Scene, expected: Expected) -> str:
    """Return why sigstore-python refuses every bundle on the image; empty if it takes one."""
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(expected.root)))
    who = policy.Identity(identity=expected.subject, issuer=expected.issuer)
    why = "it reads bundles only"
    for found in stored.listed(scene.lab.client, scene.name, scene.image.digest, "bundle"):
        content = Bundle.from_json(stored.content(scene.lab.client, scene.name, found))
        try:
            _, payload = verifier.verify_dsse(content, who)
        except VerificationError as error:
            why = str(error)
            continue
        (subject,) = json.loads(payload)["subject"]
        if f"sha256:{subject['digest']['sha256']}" == scene.image.digest:
            return ""
        why = "it is of another image"
    return why


SIGNERS: Mapping[str, Callable[[Scene, str], None]] = {
    "countersign, bundle (Rekor v2, timestamp)": our_bundle,
    "countersign, attachment (Rekor v1)": our_attachment,
    "cosign 3, bundle (Rekor v2, timestamp)": cosign_bundle,
    "cosign 3, attachment as of cosign 1 and 2 (Rekor v1)": cosign_attachment,
    "sigstore-python, bundle (Rekor v2, timestamp)": python_bundle,
}
READERS: Mapping[str, Callable[[Scene, Expected], str]] = {
    "countersign": gate_reads,
    "cosign 3": cosign_reads,
    "sigstore-python": python_reads,
}
SUBJECTS: Mapping[str, str] = {"e-mail": MAIL, "workflow": WORKFLOW}
