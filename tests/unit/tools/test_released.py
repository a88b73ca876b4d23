"""Our own programs as they were released, from a server of this process, vouched for by the lab's own Sigstore."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from countersign.console.errors import InfrastructureError, MissingError, UsageError, VerdictError
from countersign.keys import tls
from countersign.tools import recipes, taking
from countersign.tools.resolver import find, install, tool
from lab.trials import authority
from tests.fake_registry import Reply, serving
from tests.release.test_identity import Workflow
from tests.unit.tools.published import BUNDLE, GATE, HOOK, SIGSTORE, STRANGERS, SUMS, WORKFLOW, Published, says, sha256

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Bench

BUILD = "set INVOKE_TOOLS_GATE_RELEASE=none to build it from this checkout"


def test_a_release_that_is_asked_for_is_taken_and_nothing_is_built(
    bench: Bench, published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    places = install(["app-gate", "app-hook"], published.settings)
    for name, file in (("app-gate", GATE), ("app-hook", HOOK)):
        assert places[name].read_bytes() == published.files[file]
        assert (places[name].name, places[name].parent.name) == (name, sha256(published.files[file]))
        assert places[name].stat().st_mode & 0o777 == 0o755
    assert bench.calls() == []
    assert find("go", published.settings) is not None
    assert "✓ take gate v1.2.3" in capsys.readouterr().err
    assert published.asked() == [SUMS, BUNDLE, GATE, HOOK]
    found = find("app-hook", published.settings)
    assert found
    assert (found.version, found.source) == ("1.2.3", "release")


def test_a_second_time_nothing_is_asked(published: Published) -> None:
    first = tool("app-gate", published.settings)
    asked = published.asked()
    offline = dataclasses.replace(published.settings, offline=True)
    assert tool("app-gate", offline) == first
    assert published.asked() == asked


def test_what_was_built_does_not_stand_in_for_a_release_that_is_asked_for(published: Published) -> None:
    assert tool("app-gate", published.with_tools(gate_release="none")).read_text() == "native\n"
    found = find("app-gate", published.with_tools(gate_release="none"))
    assert found
    assert found.source == "cache"
    assert find("app-gate", published.settings) is None
    assert tool("app-gate", published.settings).read_bytes() == published.files[GATE]


def test_arm64_has_programs_of_its_own(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    files = {name.replace("amd64", "arm64"): content for name, content in published.files.items()}
    published.files.update({**files, "app-hook-1.2.3-linux-arm64": b"the hook for arm64"})
    published.sign()
    assert tool("app-hook", published.settings).read_bytes() == b"the hook for arm64"


def test_what_is_kept_and_has_changed_is_taken_anew(published: Published) -> None:
    path = tool("app-gate", published.settings)
    path.write_bytes(says("something else"))
    assert find("app-gate", published.settings) is None
    assert tool("app-gate", published.settings).read_bytes() == published.files[GATE]


def test_what_was_kept_under_other_trust_does_not_serve(bench: Bench, published: Published) -> None:
    tool("app-gate", published.settings)
    root = bench.folder / "other_root.json"
    root.write_text(json.dumps(STRANGERS.trusted_root()))
    with pytest.raises(VerdictError, match="refused: "):
        tool("app-gate", published.with_tools(trusted_root=root))


def without(name: str) -> Callable[[Published], None]:
    return lambda published: published.files.pop(name)  # type: ignore[return-value]


def with_file(name: str, content: bytes, *, signed: bool = False) -> Callable[[Published], None]:
    def change(published: Published) -> None:
        published.files[name] = content
        if signed:
            published.sign()

    return change


def signed_by(subject: str, sigstore: authority.Authority = SIGSTORE) -> Callable[[Published], None]:
    return lambda published: published.sign(subject, sigstore)


def statement(published: Published) -> None:
    published.files[BUNDLE] = Workflow(SIGSTORE, WORKFLOW).statement(b"{}")


def unlisted(published: Published) -> None:
    del published.files[HOOK]
    published.sign()


class OfAnotherIssuer(Workflow):
    """The same subject, as somebody else tells it."""

    def _signer(self) -> authority.Signer:
        return self.sigstore.issue(x509.UniformResourceIdentifier(self.subject), "https://issuer.example")


def by_another_issuer(published: Published) -> None:
    published.files[BUNDLE] = OfAnotherIssuer(SIGSTORE, WORKFLOW).file(published.files[SUMS])


def swapped(published: Published) -> None:
    """Both are signed by the right one, and each lies under the other's name."""
    published.files[GATE], published.files[HOOK] = published.files[HOOK], published.files[GATE]


def answers(name: str, reply: Reply) -> Callable[[Published], None]:
    def change(published: Published) -> None:
        published.server.faults.insert(0, lambda request: reply if request.path.endswith(f"/{name}") else None)

    return change


NOT_THE_RELEASE = {
    "another workflow": (signed_by(WORKFLOW.replace("release.yml", "test.yml")), BUNDLE, "SANs do not match"),
    "another repository": (signed_by(WORKFLOW.replace("acme", "eve")), BUNDLE, "SANs do not match"),
    "another release": (signed_by(WORKFLOW.replace("1.2.3", "1.2.2")), BUNDLE, "SANs do not match"),
    "a branch": (signed_by(WORKFLOW.replace("tags/v1.2.3", "heads/main")), BUNDLE, "SANs do not match"),
    "another issuer": (by_another_issuer, BUNDLE, "OIDCIssuerV2 does not match"),
    "another Sigstore": (signed_by(WORKFLOW, STRANGERS), BUNDLE, "refused: "),
    "no bundle": (without(BUNDLE), BUNDLE, "there is no such file"),
    "an empty bundle": (with_file(BUNDLE, b""), BUNDLE, "refused: "),
    "a bundle that nests": (with_file(BUNDLE, b"[" * 100_000), BUNDLE, "refused: "),
    "a bundle of a statement": (statement, BUNDLE, "refused: "),
    "other checksums": (with_file(SUMS, b""), BUNDLE, "refused: "),
    "another program": (
        with_file(GATE, says("app-gate 1.2.3 ")),
        GATE,
        f"it is sha256:{sha256(says('app-gate 1.2.3 '))}",
    ),
    "a program's beginning": (with_file(HOOK, b"the"), HOOK, f"expected sha256:{sha256(b'the hook')}"),
    "programs that are swapped": (swapped, GATE, f"it is sha256:{sha256(b'the hook')}"),
    "no program": (without(HOOK), HOOK, "there is no such file"),
    "a program that is not listed": (unlisted, SUMS, f"does not have {HOOK}"),
    "another version inside": (
        with_file(GATE, says("app-gate 1.2.2"), signed=True),
        GATE,
        "it says that it is 'app-gate 1.2.2'; expected app-gate 1.2.3",
    ),
    "a program that does not run": (with_file(GATE, b"\x7fELF", signed=True), GATE, "it says that it is 'nothing'"),
    "a program that is too large": (
        with_file(HOOK, b"." * 5000, signed=True),
        HOOK,
        "an answer of more than 4096 bytes",
    ),
    "a bundle that is too large": (with_file(BUNDLE, b" " * (2 << 20)), BUNDLE, "an answer of more than 1048576 bytes"),
}


@pytest.mark.parametrize(("change", "where", "said"), NOT_THE_RELEASE.values(), ids=list(NOT_THE_RELEASE))
def test_what_is_not_the_release_is_refused_in_one_line(
    bench: Bench,
    published: Published,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Published], None],
    where: str,
    said: str,
) -> None:
    monkeypatch.setattr(taking, "_MOST", 4096)
    change(published)
    with pytest.raises(VerdictError) as error:
        install(["app-gate", "app-hook"], published.settings)
    line = str(error.value)
    assert line.startswith(f"http://{published.server.netloc}/v1.2.3/{where}: refused: ")
    assert said in line
    assert f"; {BUILD}" in line
    assert "\n" not in line
    assert bench.calls() == []
    assert bench.left() == []


NOT_TO_BE_HAD = {
    "nothing there": (answers(SUMS, Reply(404)), "HTTP 404"),
    "an error of the server": (answers(GATE, Reply(503)), "HTTP 503"),
    "a login": (answers(SUMS, Reply(403)), "wants a login"),
    "a body that ends early": (
        answers(GATE, Reply(200, b"the", {"Content-Length": "4000", "Connection": "close"})),
        "cannot be fetched: ",
    ),
    "redirects without end": (answers(SUMS, Reply(302, b"", {"Location": f"/v1.2.3/{SUMS}"})), "more than 5 redirects"),
    "a redirect to plain HTTP": (
        answers(SUMS, Reply(302, b"", {"Location": "http://releases.invalid/x"})),
        "sends us to http://releases.invalid/x",
    ),
}


@pytest.mark.parametrize(("change", "said"), NOT_TO_BE_HAD.values(), ids=list(NOT_TO_BE_HAD))
def test_a_release_that_is_asked_for_and_not_to_be_had_is_an_error(
    bench: Bench, published: Published, change: Callable[[Published], None], said: str
) -> None:
    change(published)
    with pytest.raises(InfrastructureError) as error:
        tool("app-gate", published.settings)
    assert said in str(error.value)
    assert str(error.value).endswith(BUILD)
    assert error.value.exit_code == 4
    assert bench.calls() == []
    assert bench.left() == []


@pytest.mark.parametrize(("change", "said"), NOT_TO_BE_HAD.values(), ids=list(NOT_TO_BE_HAD))
def test_where_nobody_asked_for_it_the_program_is_built_and_that_is_said(
    at_the_tag: Published,
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Published], None],
    said: str,
) -> None:
    change(at_the_tag)
    assert tool("app-gate", at_the_tag.settings).read_text() == "native\n"
    assert len(bench.calls()) == 1
    shown = capsys.readouterr().err
    assert "gate is built: the release v1.2.3 is not to be had: " in shown
    assert said in shown
    asked = at_the_tag.asked()
    assert tool("app-gate", at_the_tag.settings).read_text() == "native\n"
    assert at_the_tag.asked() == asked


@pytest.mark.parametrize("name", ["app-gate", "app-hook"])
def test_a_pinned_hash_takes_the_signatures_place(
    published: Published, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hashes = {file: sha256(published.files[file]) for file in (GATE, HOOK)}
    pin(monkeypatch, hashes)
    without(BUNDLE)(published)
    install(["app-gate", "app-hook"], published.settings)
    assert published.asked() == [GATE, HOOK]
    file = {"app-gate": GATE, "app-hook": HOOK}[name]
    pin(monkeypatch, {**hashes, file: "0" * 64})
    with pytest.raises(VerdictError, match=f"{file}: refused: it is sha256:{hashes[file]}; expected sha256:0000"):
        tool(name, published.settings)


def test_a_pin_of_one_program_leaves_the_other_to_the_signature(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, {HOOK: sha256(b"the hook")})
    assert tool("app-gate", published.settings).read_bytes() == published.files[GATE]
    pin(monkeypatch, {HOOK: sha256(b"another")})
    with pytest.raises(VerdictError, match=f"{HOOK}: refused"):
        tool("app-gate", published.settings)


def pin(monkeypatch: pytest.MonkeyPatch, hashes: dict[str, str]) -> None:
    known = recipes.recipes()
    own = known["gate"].released
    assert own
    gate = dataclasses.replace(known["gate"], released=dataclasses.replace(own, hashes=hashes))
    changed = {**known, "gate": gate}
    monkeypatch.setattr("countersign.tools.recipes.recipes", lambda: changed)


def test_over_https_the_server_has_to_be_known(
    bench: Bench, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tls.make(["127.0.0.1"])
    paths = {name: bench.folder / f"{name}.pem" for name in ("ca", "certificate", "key")}
    for name, path in paths.items():
        path.write_bytes(getattr(made, name))
    with serving((paths["certificate"], paths["key"])) as server:
        server.faults.append(published.answer)
        settings = published.with_tools(gate_url=f"https://{server.netloc}/v{{version}}")
        with pytest.raises(InfrastructureError, match=r"cannot be fetched: .*certificate verify failed"):
            tool("app-gate", settings)
        monkeypatch.setenv("SSL_CERT_FILE", str(paths["ca"]))
        assert tool("app-gate", settings).read_bytes() == published.files[GATE]


def test_a_machine_of_another_kind_has_no_release(
    bench: Bench, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(MissingError, match="gate: is released for amd64 and arm64; this is riscv64; set INVOKE_TOOLS"):
        tool("app-gate", published.settings)
    assert bench.calls() == []


def test_offline_a_release_that_is_not_kept_is_missing(bench: Bench, published: Published) -> None:
    with pytest.raises(MissingError, match=r"gate v1\.2\.3 is not in the cache, and the network may not be used"):
        tool("app-gate", dataclasses.replace(published.settings, offline=True))
    assert (bench.calls(), published.asked()) == ([], [])


@pytest.mark.parametrize(
    "url",
    [
        "http://releases.example/v1",
        "ftp://releases.example",
        "releases",
        "https://",
        "https://h/{v}",
        "https://h:x/",
        "https://h/a b",
    ],
)
def test_an_address_that_is_none_is_refused(published: Published, url: str) -> None:
    with pytest.raises(UsageError, match=r"^tools\.gate_url: got .*expected https://HOST/FOLDER"):
        tool("app-gate", published.with_tools(gate_url=url))


@pytest.mark.parametrize(
    ("content", "said"), [(b"{}", "cannot be used"), (None, "cannot be read"), (b"x" * (5 << 20), "is over 4 MiB")]
)
def test_a_trusted_root_that_is_none_is_refused(
    bench: Bench, published: Published, content: bytes | None, said: str
) -> None:
    path = bench.folder / "root.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^tools\.trusted_root.*{said}"):
        tool("app-gate", published.with_tools(trusted_root=path))


def test_the_public_trusted_root_is_the_default(published: Published) -> None:
    with pytest.raises(VerdictError, match="refused: "):
        tool("app-gate", published.with_tools(trusted_root=None))
    assert published.asked() == [SUMS, BUNDLE]
