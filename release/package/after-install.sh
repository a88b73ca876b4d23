#!/bin/sh
# After the package's files are in place, for the first time or as another version. A gate that runs from this
# package goes on as what lies there now, without a gap; one that "countersign-gate install" brought here has its
# own programs, with which the package has nothing to do: how they follow is told.
set -e
unit=countersign-gate.service
[ -d /run/systemd/system ] || exit 0 # an image that is being made
systemctl daemon-reload
systemctl is-active --quiet "$unit" || exit 0
case $(systemctl show --property=FragmentPath --value "$unit") in
*/lib/systemd/system/*)
    systemctl reload "$unit" || echo "countersign-gate: $unit goes on as the version before; journalctl -u $unit says why" >&2
    ;;
*)
    cmp -s /usr/bin/countersign-gate /usr/local/bin/countersign-gate ||
        echo "countersign-gate: this node goes on by /usr/local/bin/countersign-gate, another version; to take it to this one: /usr/bin/countersign-gate install --policy /etc/countersign/policy.json, with the options of the install before" >&2
    ;;
esac
