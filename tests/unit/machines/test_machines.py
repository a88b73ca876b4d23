import dataclasses
import re
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext

from countersign.console.config import ROOT, Settings, settings_from
from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.console.places import VagrantSettings
from machines import boxes, needs, network, program, providers, reach, vagrant
from machines.place import Made, Place, place
from tests.parts import PARTS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", cache=tmp_path / "cache")


def made(**given: object) -> Made:
    values = {"provider": "lxc", "box": "countersign-lxc-1", "built": True, "distribution": "ubuntu"}
    return Made(**{**values, "memory": 2048, "cpus": 2, **given})  # type: ignore[arg-type]


def context(**given: object) -> MockContext:
    return MockContext(Config(overrides={"vagrant": given}))


def test_settings_are_read() -> None:
    found = settings_from(context(provider="lxc", box="built", machine="m-1", distribution="rocky", memory="1024"))
    assert found.vagrant == VagrantSettings("lxc", "built", "m-1", "rocky", 1024)


@pytest.mark.parametrize(
    ("key", "value"),
    [("provider", "docker"), ("machine", "A b"), ("distribution", "arch"), ("memory", "much"), ("cpus", "0x1")],
)
def test_bad_settings_are_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"^vagrant.{key}: got {value!r}; expected"):
        settings_from(context(**{key: value}))


def test_the_vagrantfile_knows_the_same_boxes_and_variables() -> None:
    text = (ROOT / "Vagrantfile").read_text()
    assert dict(re.findall(r'"(\w+)" => "([^"]+)"', text)) == vagrant.PUBLIC
    read = {f"COUNTERSIGN_{name}" for name in re.findall(r'setting\("(\w+)"', text)}
    given = {name for name in Place("m", Path("/s")).environment(made(), {}) if name.startswith("COUNTERSIGN_")}
    assert given <= read
    assert read - given == {f"COUNTERSIGN_{name}" for name in ("BOX_URL", "KERNEL", "INITRD", "POOL", "CONSOLE")}


def test_machines_of_two_folders_and_two_names_do_not_meet(tmp_path: Path) -> None:
    places = [Place(name, tmp_path / folder / name) for folder in "ab" for name in ("one", "two")]
    assert len({each.guest for each in places}) == len({each.bridge for each in places}) == 4
    assert all(len(each.bridge) <= 15 for each in places)


def test_what_a_machine_was_made_as_is_remembered(settings: Settings) -> None:
    here = place(settings)
    assert here.made() is None
    here.record(made(subnet="10.98.70"))
    assert here.made() == made(subnet="10.98.70")
    (here.folder / "made.json").write_text("{")
    with pytest.raises(InfrastructureError, match="cannot be read"):
        here.made()


def test_a_machine_that_was_never_made_is_not_created_and_not_destroyed(settings: Settings) -> None:
    assert vagrant.state(settings) == "not_created"
    assert vagrant.destroy(settings) is False
    with pytest.raises(InfrastructureError, match=r"the machine is not_created; run \./inv vagrant\.up"):
        vagrant.ssh_config(settings)
    assert not settings.state.exists()


def test_the_boxes_name_changes_with_its_recipe(settings: Settings, tmp_path: Path, monkeypatch) -> None:
    names = {provider: boxes.box(settings, provider).vagrant_name for provider in boxes.PROVIDERS}
    assert len(set(names.values())) == 2
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    for path in boxes.RECIPE.iterdir():
        (recipe / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(boxes, "RECIPE", recipe)
    assert boxes.box(settings, "lxc").vagrant_name == names["lxc"]
    (recipe / "lxc-config").write_text("other")
    assert boxes.box(settings, "lxc").vagrant_name != names["lxc"]
    assert boxes.box(settings, "libvirt").vagrant_name == names["libvirt"]
    (recipe / "packages.txt").write_text("other")
    assert boxes.box(settings, "libvirt").vagrant_name != names["libvirt"]


def test_there_is_no_built_box_of_virtualbox(settings: Settings) -> None:
    with pytest.raises(UsageError, match="virtualbox: no box is built for it; expected lxc or libvirt"):
        boxes.box(settings, "virtualbox")


def test_a_box_that_is_there_is_not_built(settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr(boxes, "require", lambda *_: pytest.fail("it is built"))
    wanted = boxes.box(settings, "lxc")
    wanted.folder.mkdir(parents=True)
    wanted.path.write_bytes(b"")
    assert boxes.build(settings, "lxc") == wanted
    assert not boxes.BoxBuilt(settings, "lxc").needed()


def test_a_finished_root_is_used_again(settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr("machines.boxes.os.geteuid", lambda: 0)
    monkeypatch.setattr(boxes, "require", lambda *_: None)
    ran: list[str] = []

    def run(argv, log, stdout=None):
        ran.append(argv[0])
        if argv[0] == "tar":
            Path(argv[argv.index(next(word for word in argv if word.endswith("f") and word[0] == "-")) + 1]).touch()
        if "gzip" in argv and fails:
            raise InfrastructureError("disk full")

    monkeypatch.setattr(boxes, "_run", run)
    monkeypatch.setattr(boxes, "_furnish", lambda *_: None)
    fails = True
    with pytest.raises(InfrastructureError, match="disk full"):
        boxes.build(settings, "lxc")
    assert not boxes.box(settings, "lxc").built()
    assert ran.count("debootstrap") == 1
    fails = False
    assert boxes.build(settings, "lxc").built()
    assert ran.count("debootstrap") == 1
    assert [path.name for path in (settings.cache / "boxes").iterdir() if path.name.startswith(".tmp")] == []


def test_what_is_missing_is_named_with_its_packages(monkeypatch) -> None:
    monkeypatch.setattr("machines.needs.shutil.which", lambda *_, **__: None)
    with pytest.raises(MissingError, match="vagrant, lxc-start are not installed; run apt-get install vagrant lxc"):
        needs.require("vagrant", "lxc-start")


def test_the_first_provider_that_works_is_taken(monkeypatch, settings: Settings) -> None:
    def check(provider: str) -> None:
        if provider == "lxc":
            raise MissingError("no lxc")

    monkeypatch.setattr(providers, "check", check)
    monkeypatch.setattr(needs, "require", lambda *_: None)
    assert providers.choose(settings) == "libvirt"
    named = dataclasses.replace(settings, vagrant=VagrantSettings(provider="virtualbox"))
    assert providers.choose(named) == "virtualbox"


def test_without_any_provider_it_says_why_and_what_to_install(monkeypatch, settings: Settings) -> None:
    def check(provider: str) -> None:
        raise MissingError(f"no {provider}")

    monkeypatch.setattr(providers, "check", check)
    monkeypatch.setattr(needs, "require", lambda *_: None)
    with pytest.raises(MissingError, match=r"no lxc; libvirt: no libvirt;.*apt-get install vagrant vagrant-lxc"):
        providers.choose(settings)


def test_a_plugin_that_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setattr(needs, "require", lambda *_: None)
    monkeypatch.setattr(providers, "plugins", frozenset)
    with pytest.raises(MissingError, match="the plugin vagrant-libvirt is not installed; run apt-get install"):
        providers.check("libvirt")


def test_a_subnet_that_is_taken_is_left_alone(monkeypatch) -> None:
    here = Place("m", Path("/state/m"))
    monkeypatch.setattr(network, "require", lambda *_: None)
    monkeypatch.setattr(network, "_ip_json", lambda *_: [{"dst": "default"}])
    first = network.free_subnet(here)
    monkeypatch.setattr(network, "_ip_json", lambda *_: [{"dst": f"{first}.128/25"}, {"dst": "default"}])
    assert network.free_subnet(here) not in {"", first}
    monkeypatch.setattr(network, "_ip_json", lambda *_: [{"dst": "10.0.0.0/8"}])
    with pytest.raises(InfrastructureError, match="every subnet of ours is taken"):
        network.free_subnet(here)


def test_a_machine_that_could_not_be_made_is_destroyed_and_the_first_error_stays(monkeypatch, settings) -> None:
    class Fails:
        name = "machine"

        def needed(self) -> bool:
            return True

        def apply(self) -> None:
            raise InfrastructureError("no disk")

    tried: list[Settings] = []

    def destroy(given: Settings) -> bool:
        tried.append(given)
        raise InfrastructureError("it stays")

    monkeypatch.setattr(vagrant, "steps", lambda _: [Fails()])
    monkeypatch.setattr(vagrant, "destroy", destroy)
    with pytest.raises(InfrastructureError, match="no disk"):
        vagrant.up(settings)
    assert tried == [settings]
    with pytest.raises(InfrastructureError, match="no disk"):
        vagrant.up(settings, keep=True)
    assert vagrant.up(settings, plan=True) == 1
    assert tried == [settings]


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (
            b"The box 'x' could not be found or\ncould not be accessed in the",
            MissingError,
            "vagrant.box",
        ),
        (b"\x1b[31mthe disk is full", InfrastructureError, "`vagrant up m` failed with 1: .*the disk is full"),
    ],
)
def test_failures_of_vagrant_become_ours(tmp_path: Path, said: bytes, kind: type[Exception], text: str) -> None:
    here = Place("m", tmp_path)
    here.log.write_bytes(b"of an earlier run: could not be found or could not be accessed\n")

    def fail() -> None:
        with program.errors(here), here.log.open("ab") as log:
            log.write(said)
            raise subprocess.CalledProcessError(1, ["vagrant", "up", "m"])

    with pytest.raises(kind, match=text):
        fail()


def test_options_of_an_ssh_config() -> None:
    text = 'Host m\n  HostName 10.1.2.3\n  Port 22\n  IdentityFile "/a b/key"\n\n'
    assert reach._options(text) == {"Host": "m", "HostName": "10.1.2.3", "Port": "22", "IdentityFile": "/a b/key"}


def test_a_box_names_no_disk_and_has_what_dhclient_reads(tmp_path: Path) -> None:
    for name in ("etc/fstab", "etc/hostname", "etc/ssh/ssh_host_rsa_key"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("/dev/vda / ext4 defaults 0 1\n")
    boxes._clear(tmp_path)
    files = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert set(files) == {"etc/machine-id", "etc/hosts", "etc/fstab", "etc/resolv.conf"}
    assert not any("/dev/" in text for text in files.values())


@pytest.mark.parametrize(("provider", "said"), [("", "libvirt is not chosen"), ("libvirt", "")])
def test_a_virtual_machine_is_only_tried_when_chosen(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, provider: str, said: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("machines.providers.check", lambda provider: None)
    monkeypatch.setattr("machines.needs.require", lambda *programs: None)
    part = next(part for part in PARTS if part.name == "vm")
    chosen = dataclasses.replace(settings, vagrant=dataclasses.replace(settings.vagrant, provider=provider))
    with pytest.raises(MissingError, match=said) if said else nullcontext():
        part.need(chosen)
