"""policy.yaml is read strictly, and every problem names file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.keys import pair as keys
from countersign.policy import document
from countersign.policy.load import load
from countersign.policy.model import Policy, Rule
from countersign.policy.problems import PolicyInvalid

Write = Callable[[str], Path]
Load = Callable[[str], Policy]

ROOTS = "roots: {team: {publicKey: {files: [team.pub]}}, other: {publicKey: {files: [other.pub, team.pub]}}}\n"
DIGEST = "sha256:" + "a" * 64
# HEAD is two lines and ROOTS is the third
FULL = f"""{ROOTS}scopes:
  registry.example/app: {{anyOf: [team]}}
  registry.example/critical: {{allOf: [team, other]}}
  registry.example/scratch: accept
  busybox: reject
pinned: ["registry.k8s.io/pause:3@{DIGEST}"]
revoked: {{keys: [other.pub, "{DIGEST}"], certificates: [], digests: ["{DIGEST}"]}}
"""


def problems(path: Path) -> list[tuple[int, str, str]]:
    """Load a policy that must fail; return line, key and text of each problem."""
    with pytest.raises(PolicyInvalid) as caught:
        load(path)
    assert caught.value.code == "POLICY_INVALID"
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    found = []
    for one in caught.value.problems:
        assert str(one).startswith(str(path))
        key = one.where.partition(f":{one.line}: ")[2]
        found.append((one.line, key, one.text))
    return found


def test_half_a_character_is_refused_with_its_line(write: Write) -> None:
    for text, line, key in (('roots:\n  "\\udbce": {}\n', 4, "roots"), ('pinned: ["\\ud800"]', 3, "pinned[0]")):
        [found] = problems(write(text))
        assert found[:2] == (line, key)
        assert "half a character" in found[2]


def test_a_whole_policy(loaded: Load, tmp_path: Path) -> None:
    policy = loaded(FULL)
    team, other = (keys.load_public(tmp_path / f"{name}.pub") for name in ("team", "other"))
    assert {name: root.keys for name, root in policy.roots.items()} == {"team": (team,), "other": (other, team)}
    assert {name: scope.rule for name, scope in policy.scopes.items()} == {
        "registry.example/app": Rule("anyOf", ("team",)),
        "registry.example/critical": Rule("allOf", ("team", "other")),
        "registry.example/scratch": Rule("accept"),
        "docker.io/library/busybox": Rule("reject"),
    }
    assert policy.scopes["docker.io/library/busybox"].line == 8
    assert policy.pinned == (f"registry.k8s.io/pause@{DIGEST}",)
    assert policy.revoked_keys == (other.fingerprint, DIGEST)
    assert policy.revoked_digests == (DIGEST,)


def test_the_least_policy_rejects_all(loaded: Load) -> None:
    policy = loaded("")
    assert (policy.roots, policy.scopes, policy.pinned) == ({}, {}, ())


RULE = "expected {anyOf: [ROOT…]}, {allOf: [ROOT…]}, accept or reject"


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("scope: {}\n", 3, "scope", "unknown key; did you mean scopes?"),
        ("scopes:\n", 3, "scopes", "got nothing; expected a mapping"),
        ("scopes:\n  a.b: {anyOf: [x]}\n", 4, "scopes.a.b.anyOf[0]", "unknown root 'x'; expected one of none"),
        (ROOTS + "scopes:\n\n  a.b:\n    anyOf:\n    - team\n    - x\n", 9, "scopes.a.b.anyOf[1]", "unknown root 'x'"),
        (ROOTS + "scopes: {a.b: {allOf: [team, team]}}\n", 4, "scopes.a.b.allOf[1]", "'team' is a duplicate"),
        (ROOTS + "scopes: {a.b: {anyOf: []}}\n", 4, "scopes.a.b.anyOf", "expected at least one entry"),
        (ROOTS + "scopes: {a.b: {anyOf: team}}\n", 4, "scopes.a.b.anyOf", "got 'team'; expected a list"),
        (ROOTS + "scopes: {a.b: {anyOf: [1]}}\n", 4, "scopes.a.b.anyOf[0]", "got 1; expected a string"),
        (ROOTS + "scopes: {a.b: {anyOf: [team], allOf: [team]}}\n", 4, "scopes.a.b", RULE),
        (ROOTS + "scopes: {a.b: {anyOf: [team], min: 1}}\n", 4, "scopes.a.b", RULE),
        (ROOTS + "scopes: {a.b: {oneOf: [team]}}\n", 4, "scopes.a.b", RULE),
        ("scopes: {a.b: {}}\n", 3, "scopes.a.b", RULE),
        ("scopes: {a.b: allow}\n", 3, "scopes.a.b", f"got 'allow'; {RULE}"),
        ("scopes: {a.b: yes}\n", 3, "scopes.a.b", f"got true; {RULE}"),
        ("scopes: {a.b: {accept: true}}\n", 3, "scopes.a.b", RULE),
        ("scopes: {a.b: }\n", 3, "scopes.a.b", f"got nothing; {RULE}"),
        ("scopes: {a.b/c:1: accept}\n", 3, "scopes.a.b/c:1", "without tag, digest or wildcard"),
        ("scopes: {docker.io/acme: accept}\n", 3, "scopes.docker.io/acme", "docker.io/library/acme or docker.io/acme/"),
        ("roots: {x: {publicKey: {files: []}}}\n", 3, "roots.x.publicKey.files", "expected at least one entry"),
        ("roots: {x: {publicKey: team.pub}}\n", 3, "roots.x.publicKey", "expected a mapping"),
        ("roots: {x: {}}\n", 3, "roots.x", "got nothing; expected one of publicKey, keyless, pki"),
        ("roots: {x: {gpg: 1}}\n", 3, "roots.x", "got gpg; expected one of publicKey, keyless, pki"),
        ("roots: {x: {notary: {}}}\n", 3, "roots.x", "got notary; expected one of publicKey, keyless, pki, notation"),
        ("roots: {x y: {publicKey: {files: [team.pub]}}}\n", 3, "roots.x y", "is not a name for a root"),
        ("roots: {x: {publicKey: {files: [no.pub]}}}\n", 3, "roots.x.publicKey.files[0]", "(signing.keys makes one)"),
        ("roots: {x: {publicKey: {files: [policy.yaml]}}}\n", 3, "roots.x.publicKey.files[0]", "no public key in PEM"),
        ("pinned: [a.b/c:v1]\n", 3, "pinned[0]", "has no digest"),
        ("pinned: [A]\n", 3, "pinned[0]", "not an image reference"),
        ("revoked: {keys: [sha256:ab]}\n", 3, "revoked.keys[0]", "expected sha256:<64"),
        ("revoked: {keys: [no.pub]}\n", 3, "revoked.keys[0]", "cannot be read"),
        ("revoked: {digests: [a.b/c@x]}\n", 3, "revoked.digests[0]", "expected sha256:<64"),
        ("revoked: {certificates: [x]}\n", 3, "revoked.certificates[0]", "No such file"),
        ("revoked: {certificates: [team.pub]}\n", 3, "revoked.certificates[0]", "no certificate"),
        ("revoked: {certificates: [{issuer: CN=x}]}\n", 3, "revoked.certificates[0].serial", "is missing"),
        ("revoked: {images: []}\n", 3, "revoked.images", "unknown key; did you mean digests?"),
    ],
)
def test_a_problem_names_line_and_key(write: Write, text: str, line: int, key: str, message: str) -> None:
    ((found_line, found_key, found),) = problems(write(text))
    assert (found_line, found_key) == (line, key)
    assert message in found


@pytest.mark.parametrize("default", ["accept", "allow", "yes", "null", "{reject: false}"])
def test_the_default_can_be_nothing_but_reject(tmp_path: Path, default: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"apiVersion: countersign/v1\ndefault: {default}\n")
    ((line, key, text),) = problems(path)
    assert (line, key) == (2, "default")
    assert "expected 'reject'" in text


@pytest.mark.parametrize(("version", "message"), [("countersign/v2", "'countersign/v1'"), ("1", "'countersign/v1'")])
def test_another_version_is_refused(tmp_path: Path, version: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"apiVersion: {version}\n")
    ((line, key, text),) = problems(path)
    assert (line, key) == (1, "apiVersion")
    assert message in text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("acme/app", "index.docker.io/acme/app"),
        ("docker.io", "index.docker.io"),
        ("registry.example/team", "registry.example/team/"),
    ],
)
def test_two_spellings_of_one_scope_are_refused(write: Write, first: str, second: str) -> None:
    ((line, key, text),) = problems(write(f"scopes:\n  {first}: accept\n  {second}: reject\n"))
    assert (line, key) == (5, f"scopes.{second}")
    assert f"is the same as '{first}' on line 4" in text


def test_all_problems_are_found_at_once_in_the_order_of_lines(write: Write) -> None:
    text = "pinned: [a]\nrevoked: {digests: [x]}\nscopes:\n  a.b: {anyOf: [x]}\n  c:d: accept\n"
    assert [line for line, _, _ in problems(write(text))] == [3, 4, 6, 7]


def test_the_one_line_counts_the_others(write: Write) -> None:
    with pytest.raises(PolicyInvalid, match=r"pinned\[0\].*and 1 more: policy.check lists them"):
        load(write("pinned: [a, b]\n"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "stands here again; first on line 3"),
        ("on: 1\n", 1, "a key that is not a string: 'on'; quote it"),
        ("1: 1\n", 1, "a key that is not a string"),
        ("? [a]\n: 1\n", 1, "a key that is not a string"),
        ("a: &x [1]\nb: *x\n", 1, "an alias"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "a key that is not a string"),
        ("a: [1\n", 2, "is not YAML"),
        ("a: 1\n---\nb: 1\n", 2, "is not YAML"),
        ("a: !!python/name:os.system x\n", 1, "is not YAML"),
        ("a: 2026-99-99\n", 1, "is not YAML"),
        ("a: \x07\n", 1, "is not YAML"),
        ("[" * 30 + "]" * 30, 1, "nested deeper than 16"),
        ("[" * 500, 1, "nested deeper than 16"),
    ],
)
def test_yaml_that_could_be_read_in_two_ways_is_refused(tmp_path: Path, text: str, line: int, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyInvalid, match=message) as caught:
        document.read(tmp_path / "p.yaml")
    assert caught.value.problems[0].line == line


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "is not YAML: invalid start byte, at byte 0"), (b"#" * (1 << 20) + b"\n", "over 1 MiB")],
)
def test_bytes_that_are_no_yaml(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(PolicyInvalid, match=message):
        document.read(tmp_path / "p.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]\n", "x\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyInvalid, match="expected a mapping"):
        load(tmp_path / "p.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match="No such file"):
        load(tmp_path / "p.yaml")
