"""Which of Vagrant's providers this host can use, and what one of them lacks."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from typing import Any

from countersign.console.config import Settings
from countersign.console.errors import CountersignError, MissingError
from machines import needs

ORDER = ("lxc", "libvirt", "virtualbox")
PLUGINS = {"lxc": "vagrant-lxc", "libvirt": "vagrant-libvirt"}
ASK_WITHIN = 60.0


def choose(settings: Settings) -> str:
    """Return the provider that the settings name, or the first that this host can use.

    Raises:
        MissingError: it lacks something, or none can be used; with what to install.
    """
    needs.require("vagrant")
    wanted = settings.vagrant.provider
    if wanted:
        check(wanted)
        return wanted
    reasons = {provider: _lacking(provider) for provider in ORDER}
    able = [provider for provider in ORDER if not reasons[provider]]
    if able:
        return able[0]
    said = "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())
    raise MissingError(f"no provider can be used here ({said})", where="vagrant", do=f"run {needs.install(*needs.LXC)}")


def check(provider: str) -> None:
    """Raise unless this host can use a provider.

    Raises:
        MissingError: with what is missing and the command that brings it.
    """
    needs.require("vagrant")
    plugin = PLUGINS.get(provider)
    if plugin and plugin not in plugins():
        do = f"run {needs.install(*(needs.LXC if provider == 'lxc' else needs.LIBVIRT))}"
        raise MissingError(f"the plugin {plugin} is not installed", where="vagrant", do=do)
    if provider == "lxc":
        needs.require("lxc-start", "dnsmasq", "ip", "sudo")
        if os.geteuid() != 0:
            raise MissingError("containers and their bridge need root", where="lxc", do="run as root")
    elif provider == "libvirt":
        if not libvirtd_answers():
            needs.require("libvirtd", "virsh", "qemu-system-x86_64")
            if os.geteuid() != 0:
                raise MissingError("no libvirtd answers, and to start one needs root", where="libvirt")
    elif not needs.find("VBoxManage"):
        raise MissingError("VBoxManage is not installed", where="virtualbox", do="install VirtualBox")


def libvirtd_answers() -> bool:
    """Return whether the system's libvirtd does."""
    virsh = needs.find("virsh")
    if not virsh:
        return False
    try:
        asked = subprocess.run([virsh, "-c", "qemu:///system", "version"], capture_output=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _lacking(provider: str) -> str:
    """Return why a provider cannot be used here, or an empty text."""
    try:
        check(provider)
    except CountersignError as error:
        return error.found
    return ""


@cache
def plugins() -> frozenset[str]:
    """Return the names of Vagrant's plugins, the system's and the user's.

    Raises:
        MissingError: Vagrant itself does not work.
    """
    from vagrant import Vagrant

    try:
        client: Any = Vagrant
        return frozenset(plugin.name for plugin in client().plugin_list())
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        raise MissingError(f"does not work ({error})", where="vagrant", do="try `vagrant plugin list`") from None
