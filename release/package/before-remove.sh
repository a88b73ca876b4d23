#!/bin/sh
# Before the package goes; not before another version of it comes. Removing a package switches no enforcement off:
# containers start only while the gate answers, so a gate that runs from this package keeps it.
set -e
unit=countersign-gate.service
case $1 in
remove | 0) ;; # dpkg's word, rpm's count of what stays
*) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0
systemctl is-active --quiet "$unit" || exit 0
case $(systemctl show --property=FragmentPath --value "$unit") in
*/lib/systemd/system/*)
    echo "countersign-gate: $unit runs from this package, and containers start only while it answers; take the hook out of the runtime's configuration first, then: systemctl disable --now $unit" >&2
    exit 1
    ;;
*)
    echo "countersign-gate: this node stays enforced, by /usr/local/bin/countersign-gate; to take that off: /usr/local/bin/countersign-gate uninstall" >&2
    ;;
esac
