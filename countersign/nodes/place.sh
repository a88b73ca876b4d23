# Unpack the archive on stdin, whose files have temporary names, and give each its owner and then its name.
# Arguments: TEMPORARY PATH OWNER for each file; OWNER may be empty. When anything fails, no temporary file stays.
look() {
    while [ $# -gt 0 ]; do
        [ -d "${2%/*}/" ] || { echo "${2%/*}: there is no such folder" >&2; return 1; } # tar would make it
        shift 3
    done
}
unpack() {
    tar -C / -xpf - || return
    while [ $# -gt 0 ]; do
        [ -z "$3" ] || chown -- "$3" "$1" || return
        shift 3
    done
}
rename() {
    while [ $# -gt 0 ]; do
        mv -fT -- "$1" "$2" || return
        shift 3
    done
}
forget() {
    while [ $# -gt 0 ]; do
        rm -f -- "$1"
        shift 3
    done
}
look "$@" && unpack "$@" && rename "$@" && exit
code=$?
forget "$@"
exit "$code"
