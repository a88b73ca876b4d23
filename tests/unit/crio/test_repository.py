import shutil
import subprocess

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.host import HOST, HostNode
from crio import repository
from crio.repository import CRIO, KUBERNETES, Key, Repository, fingerprints


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two OpenPGP keys, armoured, with their fingerprints."""
    if not shutil.which("gpg"):
        pytest.skip("gpg is not installed")
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    made = []
    for name in ("right", "wrong"):
        subprocess.run(
            [*gpg, "--quick-generate-key", name, "ed25519", "sign", "never"], check=True, capture_output=True
        )
        key = subprocess.run([*gpg, "--armor", "--export", name], check=True, capture_output=True).stdout
        listed = subprocess.run(
            [*gpg, "--with-colons", "--list-keys", name], check=True, capture_output=True, text=True
        )
        found = [line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr")]
        made.append((key, found[0]))
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
    return made


@pytest.fixture
def machine(node):
    """A machine whose gpg is this machine's."""
    host = HostNode()

    def gpg(argv, given):
        result = host.run(argv, input=given, check=False)
        return result.code, result.stdout

    node.answers["gpg"] = gpg
    node.answers["mktemp"] = lambda argv, given: (0, host.run(argv).stdout)
    node.answers["rm"] = lambda argv, given: (host.run(argv).code, b"")
    return node


def serve(machine, key: bytes) -> None:
    machine.answers["curl"] = lambda argv, given: (0, key)


@pytest.mark.parametrize("family", ["deb", "rpm"])
def test_a_key_with_the_pinned_fingerprint_is_trusted(machine, keys, family):
    key, fingerprint = keys[0]
    step = Key(machine, Repository("ours", "https://packages.test", frozenset({fingerprint})), family)
    serve(machine, key)
    assert step.needed()
    step.apply()
    assert machine.files == {step.repository.key_path(family): key}
    assert not step.needed()


@pytest.mark.parametrize("family", ["deb", "rpm"])
def test_a_key_with_another_fingerprint_is_refused_and_leaves_nothing(machine, keys, family):
    (_, right), (key, wrong) = keys
    step = Key(machine, Repository("ours", "https://packages.test", frozenset({right})), family)
    serve(machine, key)
    with pytest.raises(InfrastructureError, match=f"got the key {wrong}; expected {right}"):
        step.apply()
    assert machine.files == {}
    homes = [argv[2] for argv in machine.ran if argv[0] == "gpg"]
    assert homes
    assert not any(HostNode().exists(home) for home in homes)


def test_a_right_key_that_brings_another_one_is_refused(machine, keys):
    (key, right), (other, wrong) = keys
    serve(machine, key + other)
    with pytest.raises(InfrastructureError, match=wrong):
        Key(machine, Repository("ours", "https://packages.test", frozenset({right})), "deb").apply()
    assert machine.files == {}


def test_what_is_no_key_is_refused(machine, keys):
    serve(machine, b"<html>not found</html>")
    with pytest.raises(InfrastructureError, match="got the key none"):
        Key(machine, CRIO, "deb").apply()
    assert machine.files == {}


def test_a_key_that_was_exchanged_on_the_machine_is_needed_again(machine, keys):
    (key, right), (other, _) = keys
    step = Key(machine, Repository("ours", "https://packages.test", frozenset({right})), "deb")
    machine.files[step.repository.key_path("deb")] = other
    assert step.needed()
    machine.files[step.repository.key_path("deb")] = key
    assert not step.needed()


def test_only_primary_keys_count(node):
    node.answers["mktemp"] = lambda argv, given: (0, b"/tmp/x\n")
    node.answers["gpg"] = lambda argv, given: (0, b"pub:-:\nfpr:::::::::AAAA:\nsub:-:\nfpr:::::::::BBBB:\n")
    assert fingerprints(node, b"") == {"AAAA"}


@pytest.mark.parametrize("found", [CRIO, KUBERNETES])
def test_the_pinned_fingerprints_are_whole_ones(found):
    assert all(len(each) == 40 and set(each) <= set("0123456789ABCDEF") for each in found.fingerprints)
    assert found.url("deb").startswith("https://")


def test_a_repository_is_named_only_after_its_key_is_trusted():
    names = [step.name for step in repository.steps(HOST, CRIO, "deb")]
    assert names == ["folder /etc/apt/keyrings", "signing key of cri-o", "/etc/apt/sources.list.d/cri-o.list"]
    assert b"signed-by=/etc/apt/keyrings/cri-o.asc]" in CRIO.listing("deb")
    assert b"repo_gpgcheck=1" in CRIO.listing("rpm")
