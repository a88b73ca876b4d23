# Asked once a connection: are we root or may we become root, and what is there to relay a socket with.
if [ "$(id -u)" = 0 ]; then
    echo root
elif ! command -v sudo >/dev/null; then
    echo none
elif sudo -n -- env true 2>/dev/null; then
    echo free
else
    echo asks
fi
for program in perl python3 socat; do
    command -v "$program" >/dev/null && echo "$program"
done
id -un
