"""Relays stdin and stdout to the unix socket that the argument names; runs by itself on a machine that has no Perl."""

import os
import socket
import sys
import threading

CHUNK = 65536


def main(path: str) -> None:
    """Copy both ways, and pass on the end of either."""
    there = socket.socket(socket.AF_UNIX)
    there.connect(path)

    def send() -> None:
        while chunk := os.read(0, CHUNK):
            there.sendall(chunk)
        there.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    while chunk := there.recv(CHUNK):
        while chunk:
            chunk = chunk[os.write(1, chunk) :]
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
