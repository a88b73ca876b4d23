from pathlib import Path

import pytest

from countersign.console.errors import CountersignError, MissingError
from countersign.nodes.host import HOST
from crio import kubernetes, packages
from crio.distribution import Distribution, Installed, distribution
from crio.packages import NewEnough, binary_steps, require_version, steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=ubuntu\nVERSION_ID="24.04"\n', Distribution("ubuntu", "24.04", "deb")),
        ('# a comment\nID=debian\nVERSION_ID="12"\n', Distribution("debian", "12", "deb")),
        ('ID="rocky"\nVERSION_ID="9.6"\n', Distribution("rocky", "9", "rpm")),
    ],
)
def test_supported_distributions(node, text, expected):
    node.os_release = text
    assert distribution(node) == expected


@pytest.mark.parametrize("text", ['ID=ubuntu\nVERSION_ID="22.04"\n', "ID=arch\n", 'ID="rocky"\nVERSION_ID="8.9"\n', ""])
def test_others_are_refused_before_anything_changes(node, text):
    node.os_release = text
    with pytest.raises(MissingError, match=r"expected ubuntu 24\.04 or debian 12 or rocky 9"):
        steps(node)
    assert node.ran == []


def test_the_key_is_checked_before_packages_come_from_its_repository(node):
    names = [step.name for step in steps(node, kubernetes=True)]
    order = [
        "packages ca-certificates, curl, gnupg",
        "signing key of cri-o",
        "/etc/apt/sources.list.d/cri-o.list",
        "signing key of kubernetes",
        "packages cri-o, iptables, containernetworking-plugins",
        "CRI-O is 1.34 or newer",
        "crio.service runs",
        "packages kubelet, kubeadm, kubectl, kubernetes-cni",
        "cluster of one node",
    ]
    assert [name for name in names if name in order] == order


def test_kubernetes_is_optional(node):
    names = [step.name for step in steps(node)]
    assert not any("kube" in name for name in names)
    assert "crio.service runs" in names


def dpkg(*installed: str):
    return lambda argv, given: (0, b"installed") if argv[-1] in installed else (1, b"")


def test_only_missing_packages_are_installed(node):
    node.answers["dpkg-query"] = dpkg("curl")
    Installed(node, "deb", ("curl", "gnupg"), held=True).apply()
    changes = [argv for argv in node.ran if argv[0] in {"apt-get", "apt-mark"}]
    assert changes[0][:2] == ("apt-get", "update")
    assert changes[1][-1] == "gnupg"
    assert "curl" not in changes[1]
    assert changes[2] == ("apt-mark", "hold", "curl", "gnupg")


@pytest.mark.parametrize(("installed", "needed"), [(("curl", "gnupg"), False), (("curl",), True)])
def test_packages_are_needed_while_one_is_missing(node, installed, needed):
    node.answers["dpkg-query"] = dpkg(*installed)
    assert Installed(node, "deb", ("curl", "gnupg")).needed() is needed


def test_rpm_packages(node):
    node.answers["rpm"] = lambda argv, given: (int(argv[-1] == "cri-o"), b"")
    step = Installed(node, "rpm", ("cri-o", "curl"))
    assert step.needed()
    step.apply()
    assert node.ran[-1][0] == "dnf"
    assert node.ran[-1][-1] == "cri-o"


@pytest.mark.parametrize("said", [b"crio version 1.34.0\n  GitCommit: x", b"crio version 1.36.3\n", b"Version:  2.0.0"])
def test_a_crio_that_is_new_enough(node, said):
    node.answers["crio"] = lambda argv, given: (0, said)
    assert not NewEnough(node).needed()


def test_a_crio_that_is_too_old_is_refused(node):
    node.answers["crio"] = lambda argv, given: (0, b"crio version 1.33.9\n")
    assert NewEnough(node).needed()
    with pytest.raises(MissingError, match=r"CRI-O is 1\.33; expected 1\.34 or newer"):
        NewEnough(node).apply()


def test_a_crio_that_does_not_say_its_version_is_refused(node):
    node.answers["crio"] = lambda argv, given: (0, b"hello")
    with pytest.raises(CountersignError, match="does not say its version"):
        require_version(node)


def binary(folder: Path, said: str, pinns: bool = True) -> Path:
    crio = folder / "crio"
    crio.write_text(f"#!/bin/sh\necho '{said}'\n")
    crio.chmod(0o755)
    if pinns:
        (folder / "pinns").write_bytes(b"pinns")
    return crio


def test_a_binary_goes_there_with_pinns_and_a_unit(tmp_path, node):
    found = binary_steps(node, binary(tmp_path, "crio version 1.36.3"))
    assert [step.name for step in found] == [
        "packages runc, conmon, iptables, containernetworking-plugins, libseccomp2",
        "/usr/local/bin/pinns",
        "/usr/local/bin/crio",
        "folder /etc/crio/crio.conf.d",
        "folder /etc/cni/net.d",
        "/etc/crio/crio.conf.d/05-plugins.conf",
        "/etc/cni/net.d/11-countersign-bridge.conflist",
        "folder /etc/systemd/network",
        "/etc/systemd/network/11-countersign-veth.link",
        "/etc/crio/crio.conf.d/05-binary.conf",
        "/etc/systemd/system/crio.service",
        "crio.service runs",
    ]


def test_a_binary_without_pinns_is_refused(tmp_path):
    with pytest.raises(MissingError, match="pinns: there is no such file"):
        binary_steps(HOST, binary(tmp_path, "crio version 1.36.3", pinns=False))


def test_a_binary_that_is_too_old_is_refused(tmp_path):
    with pytest.raises(MissingError, match=r"CRI-O is 1\.30"):
        binary_steps(HOST, binary(tmp_path, "crio version 1.30.0"))


def test_a_cluster_that_failed_is_reset_and_can_be_tried_again(node):
    node.answers["kubeadm"] = lambda argv, given: (1, b"port in use") if argv[1] == "init" else (0, b"")
    step = kubernetes.Cluster(node)
    assert step.needed()
    with pytest.raises(CountersignError, match="port in use"):
        step.apply()
    assert node.ran[-1] == ("kubeadm", "reset", "--force")
    node.files[kubernetes.ADMIN] = b""
    assert not step.needed()


@pytest.mark.parametrize(("said", "needed"), [(b"1\n1\n1\n", False), (b"1\n1\n0\n", True), (b"1\n", True)])
def test_kernel_settings_are_needed_until_all_are_on(node, said, needed):
    node.answers["sysctl"] = lambda argv, given: (0, said)
    assert kubernetes.Kernel(node).needed() is needed


def test_every_file_of_the_room_is_used():
    used = "".join(Path(str(module.__file__)).read_text() for module in (packages, kubernetes))
    assert all(f'"{path.name}"' in used for path in packages.FILES.iterdir())
