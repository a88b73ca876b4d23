"""A node image that is built on the spot, where kindest/node can't be pulled.

Every stage leaves a whole product in the cache or nothing, so a build that was cut off goes on where it was:
Debian's root filesystem, then the node's, then the image in the Docker Engine. The tag names all that the image
depends on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes.template import render
from countersign.tools.recipes import lookup, recipes
from kind import system_images
from kind.system_images import SystemImage

if TYPE_CHECKING:
    from docker import DockerClient

HERE = Path(__file__).resolve().parent
IMAGE = HERE / "image"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
REPOSITORY = "countersign/kind-node"
KUBERNETES = ("kubeadm", "kubelet", "kubectl")
CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")
CNI = ("cni-loopback", "cni-ptp", "cni-portmap", "cni-host-local")
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns")
TOOLS = (*KUBERNETES, *CONTAINERD, *CNI, *COMPONENTS, "kind-network", "kind")
PAUSE = "registry.k8s.io/pause:3.10"
NETWORK = "countersign.test/kind/network:v1"
ETCD_TAG = "3.7.3-0"
"""As upstream tags the etcd that kind/kubernetes/go.mod has; kubeadm is told, for it would ask for the next one."""
IMPORT_WITHIN = 30.0
ENABLED = ("kubelet.service", "containerd.service", "undo-mount-hacks.service")
UNWANTED = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
)
"""Units that make no sense in a container, as kind's base Dockerfile removes them."""


def kubernetes_version() -> str:
    """Return the version of Kubernetes in the image, such as ``v1.37.2``."""
    return f"v{recipes()['kubernetes'].version}"


def wanted() -> str:
    """Return the image's reference; its tag names the content that it has to have. Builds nothing."""
    return f"{REPOSITORY}:{kubernetes_version()}-{_key()}"


def build(settings: Settings, client: DockerClient) -> str:
    """Return the reference of the image in the engine, built as far as it is not there already.

    Raises:
        MissingError: we are not root, or debootstrap is not installed.
        InfrastructureError: a stage failed.
    """
    from docker.errors import ImageNotFound

    reference = wanted()
    try:
        client.images.get(reference)
    except ImageNotFound:
        _load(client, _root_filesystem(settings), reference)
    return reference


def _key() -> str:
    digest = hashlib.sha256(f"{SUITE} {MIRROR}".encode())
    for path in (*sorted(IMAGE.iterdir()), Path(__file__), Path(system_images.__file__)):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for name in sorted({lookup(tool)[0].name for tool in (*TOOLS, "pause")}):
        digest.update(f"{name} {recipes()[name].key()}\n".encode())
    return digest.hexdigest()[:12]


def _packages() -> list[str]:
    lines = (IMAGE / "packages.txt").read_text(encoding="utf-8").splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def _base(settings: Settings) -> Path:
    """Return an archive of Debian with the node's packages."""
    packages = _packages()
    key = hashlib.sha256(f"{SUITE} {MIRROR} {packages}".encode()).hexdigest()[:12]
    kept = settings.cache / "kind-base" / f"{key}.tar"
    if kept.is_file():
        return kept
    if not shutil.which("debootstrap"):
        raise MissingError("debootstrap is not installed", do="install it (on Debian: apt-get install debootstrap)")
    with output.progress(f"Debian {SUITE} with {len(packages)} packages"), _scratch(kept.parent) as scratch:
        root = scratch / "root"
        include = f"--include={','.join(packages)}"
        _run(["debootstrap", "--variant=minbase", include, SUITE, str(root), MIRROR], scratch / "log", timeout=1800)
        shutil.rmtree(root / "var" / "cache" / "apt", ignore_errors=True)
        _archive(root, kept, scratch)
    return kept


def _root_filesystem(settings: Settings) -> Path:
    """Return an archive of the node's whole root filesystem."""
    from countersign.tools.resolver import install, tool

    kept = settings.cache / "kind-node" / f"{_key()}.tar"
    if kept.is_file():
        return kept
    programs = install(TOOLS, settings)
    pause = tool("pause", settings)
    base = _base(settings)
    with output.progress("root filesystem of the node"), _scratch(kept.parent) as scratch:
        root = scratch / "root"
        root.mkdir()
        _run(["tar", "--numeric-owner", "-C", str(root), "-xf", str(base)], scratch / "log")
        _furnish(root, programs, _kind_files(settings), scratch / "log")
        archive = scratch / "images.tar"
        system_images.write_archive(archive, _images(programs, root), _architecture())
        _preload(root, programs, [archive, _pause_archive(pause, scratch)], scratch)
        _archive(root, kept, scratch)
    return kept


def _kind_files(settings: Settings) -> Path:
    """Return the files of kind's own base image, from its module."""
    from countersign.tools.resolver import tool
    from countersign.tools.toolchain import go_environment

    version = recipes()["kind"].version
    argv = [str(tool("go", settings)), "mod", "download", "-json", f"sigs.k8s.io/kind@v{version}"]
    environment = go_environment(settings.cache, settings.offline)
    ended = subprocess.run(argv, env=environment, cwd=settings.cache, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise InfrastructureError(f"could not be had: {ended.stderr[-300:]}", where=f"sigs.k8s.io/kind@v{version}")
    return Path(json.loads(ended.stdout)["Dir"]) / "images" / "base" / "files"


def _furnish(root: Path, programs: Mapping[str, Path], files: Path, log: Path) -> None:
    """Do to Debian what kind's base Dockerfile does, and put the programs in."""
    _run(["cp", "-rT", "--no-preserve=mode,ownership", str(files), str(root)], log)
    for folder in (root / "usr/local/bin", root / "kind/bin"):
        for program in folder.iterdir():
            program.chmod(0o755)
    for pattern in UNWANTED:
        for unit in root.glob(pattern):
            unit.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as conf:
        conf.write("ReadKMsg=no\n")
    _run(["chroot", str(root), "systemctl", "enable", *ENABLED], log)
    _run(["chroot", str(root), "systemctl", "mask", "systemd-binfmt.service"], log)
    for name in ("etc/kubernetes/manifests", "opt/cni/bin", "kind/manifests"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _install(root, programs)
    for manifest in ("default-cni.yaml", "default-storage.yaml"):
        shutil.copyfile(IMAGE / manifest, root / "kind/manifests" / manifest)
    (root / "kind/version").write_text(kubernetes_version())
    (root / "etc/containerd/cri-base.json").write_text(_base_spec(programs["ctr"]))
    (root / "etc/machine-id").write_text("")


def _install(root: Path, programs: Mapping[str, Path]) -> None:
    targets = {
        **{name: f"usr/bin/{name}" for name in KUBERNETES},
        **{name: f"usr/local/bin/{name}" for name in CONTAINERD},
        **{name: f"opt/cni/bin/{name.removeprefix('cni-')}" for name in CNI},
    }
    for name, target in targets.items():
        _put(programs[name], root / target)
    _put(IMAGE / "crictl", root / "usr/local/bin/crictl")


def _base_spec(ctr: Path) -> str:
    """Return containerd's default spec as kind's base Dockerfile changes it."""
    spec = json.loads(subprocess.run([ctr, "oci", "spec"], capture_output=True, check=True).stdout)
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append({"path": "/kind/bin/mount-product-files.sh"})
    spec["process"].pop("rlimits", None)
    return json.dumps(spec, indent=2) + "\n"


def _images(programs: Mapping[str, Path], root: Path) -> list[SystemImage]:
    version, registry = kubernetes_version(), "registry.k8s.io"
    tags = {
        "etcd": f"{registry}/etcd:{ETCD_TAG}",
        "coredns": f"{registry}/coredns/coredns:v{recipes()['coredns'].version}",
    }
    found = []
    for name in COMPONENTS:
        files, links = {f"usr/local/bin/{name}": programs[name]}, dict[str, str]()
        if name == "kube-proxy":
            files, links = system_images.kube_proxy_files(programs[name], root)
        reference = tags.get(name, f"{registry}/{name}:{version}")
        entrypoint = [f"/usr/local/bin/{name}"] if name == "coredns" else []
        found.append(SystemImage(reference, files, entrypoint, links))
    network = SystemImage(NETWORK, {"network": programs["kind-network"]}, ["/network"])
    return [*found, network]


def _pause_archive(layout: Path, scratch: Path) -> Path:
    """Return our pause image as an archive under the name that containerd's configuration has."""
    copy, archive = scratch / "pause", scratch / "pause.tar"
    shutil.copytree(layout, copy)
    index = json.loads((copy / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = {system_images.NAME: PAUSE}
    (copy / "index.json").write_text(json.dumps(index))
    _run(["tar", "-C", str(copy), "-cf", str(archive), "."], scratch / "log")
    return archive


def _preload(root: Path, programs: Mapping[str, Path], archives: Sequence[Path], scratch: Path) -> None:
    """Put images into the node's content store, pinned, and not unpacked before a container needs them."""
    socket = scratch / "c.sock"
    config = scratch / "import.toml"
    store = root / "var/lib/containerd"
    values = {"root": str(store), "state": str(scratch / "state"), "socket": str(socket)}
    config.write_bytes(render(IMAGE / "import.toml.j2", **values))
    ctr = [str(programs["ctr"]), "--address", str(socket), "--namespace", "k8s.io", "images", "import"]
    options = ["--all-platforms", "--no-unpack", "--label=io.cri-containerd.pinned=pinned"]
    with (scratch / "log").open("ab") as log:
        argv = [str(programs["containerd"]), "--config", str(config)]
        daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + IMPORT_WITHIN
            while not socket.exists():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise InfrastructureError("containerd did not start to take the images", where=str(scratch / "log"))
                time.sleep(0.05)
            for archive in archives:
                _run([*ctr, *options, str(archive)], scratch / "log")
        finally:
            daemon.terminate()
            daemon.wait(30)


def _load(client: DockerClient, root: Path, reference: str) -> None:
    """Make the image of a root filesystem in the engine."""
    import io

    from docker.errors import BuildError, DockerException

    repository, _, tag = reference.partition(":")
    plain = f"{tag}-root"
    with output.progress(f"node image {reference}"):
        try:
            client.api.import_image_from_file(str(root), repository, plain)
            dockerfile = io.BytesIO(render(IMAGE / "Dockerfile.j2", base=f"{repository}:{plain}"))
            client.images.build(fileobj=dockerfile, tag=reference, rm=True)
            client.images.remove(f"{repository}:{plain}", noprune=True)
        except (DockerException, BuildError, OSError) as error:
            raise InfrastructureError(f"the engine did not take it ({error})", where=reference) from None


def _architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _put(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _archive(root: Path, kept: Path, scratch: Path) -> None:
    part = scratch / "product.tar"
    _run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(part), "."], scratch / "log")
    part.replace(kept)


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """Give a folder that is gone afterwards, on the same filesystem as the product."""
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=beside) as name:
        yield Path(name)


def _run(argv: Sequence[str], log: Path, timeout: float = 900) -> None:
    """Run a program of the build.

    Raises:
        InfrastructureError: it failed; the end of what it wrote is in the text.
    """
    with log.open("ab") as file:
        try:
            ended = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"did not end within {timeout:g} s", where=argv[0]) from None
    if ended.returncode:
        end = log.read_bytes()[-400:].decode(errors="replace")
        raise InfrastructureError(f"ended with {ended.returncode}: {end}", where=" ".join(argv[:3]))
