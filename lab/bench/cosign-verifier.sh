#!/bin/sh
# The common way to check signatures at pull: cosign, run by containerd's bindir image verifier.
# containerd gives verifiers -name REF -digest DIGEST and no settings, so they lie beside this script in SETTINGS.
#   COSIGN KEY REGISTRY SERVER, one a line
set -eu
name='' digest=''
while [ $# -gt 0 ]; do
    case $1 in
    -name) name=$2 && shift 2 ;;
    -digest) digest=$2 && shift 2 ;;
    *) shift ;;
    esac
done
{ read -r cosign && read -r key && read -r registry && read -r server; } <"${0%/*}/../cosign-verifier.settings"
case $name in
"$registry"/system/*) exit 0 ;; # the sandbox image: nothing starts without it
"$registry"/*) ;;
*) echo "$name is not of $registry" && exit 1 ;;
esac
path=${name#"$registry"} # cosign reads no hosts.toml
path=${path%%@*} path=${path%:*}
"$cosign" verify --key "$key" --insecure-ignore-tlog=true --output text "$server$path@$digest" >/dev/null 2>&1 || {
    echo "cosign verifies nothing of $name"
    exit 1
}
