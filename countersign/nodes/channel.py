"""What goes over one channel of an SSH connection (RFC 4254): a command with its streams, or a relayed socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import Channel, Transport

CHUNK = 1 << 16
TICK = 0.1
OPEN_WITHIN = 60.0
SILENCE = 2.0
"""Seconds: sshd may send the exit code before the end of the output, but not that much."""


class Late(Exception):
    """The command did not end in time; the arguments are its stdout and stderr so far."""


class Lost(Exception):
    """The connection ended before the command did."""


def talk(transport: Transport, line: str, stdin: bytes, timeout: float, limit: int) -> tuple[int, bytes, bytes]:
    """Run a command line, and return its exit code and the last ``limit`` bytes of its stdout and stderr.

    Raises:
        Late: after ``timeout`` seconds; the channel is closed, the command is not our business any more.
        Lost: no exit code came.
        paramiko.SSHException, EOFError, OSError: the channel could not be opened, or broke.
    """
    deadline = time.monotonic() + timeout
    channel = transport.open_session(timeout=OPEN_WITHIN)
    outputs = bytearray(), bytearray()
    try:
        channel.exec_command(line)
        sender = threading.Thread(target=_send, args=(channel, stdin), daemon=True)
        sender.start()
        channel.settimeout(TICK)
        reader = threading.Thread(
            target=_keep, args=(channel, channel.recv_stderr, outputs[1], deadline, limit), daemon=True
        )
        reader.start()
        _keep(channel, channel.recv, outputs[0], deadline, limit)
        reader.join(max(0.0, deadline - time.monotonic()) + 1)
        ended = channel.status_event.wait(max(0.0, deadline - time.monotonic()))
    finally:
        channel.close()
    stdout, stderr = (bytes(output[-limit:]) for output in outputs)
    if not ended:
        raise Late(stdout, stderr)
    if channel.exit_status < 0 and not transport.is_active():
        raise Lost(stdout, stderr)
    return channel.exit_status, stdout, stderr


def _send(channel: Channel, stdin: bytes) -> None:
    """Send all of stdin, and its end; a command that ended without reading it is told by its exit code."""
    view = memoryview(stdin)
    with contextlib.suppress(OSError, EOFError):
        while view and not channel.closed:
            with contextlib.suppress(TimeoutError):
                view = view[channel.send(view[:CHUNK]) :]
        channel.shutdown_write()


def _keep(channel: Channel, receive: Callable[[int], bytes], kept: bytearray, deadline: float, limit: int) -> None:
    """Read a stream to its end, or until the command has ended: a daemon that has the stream may hold it open."""
    heard = time.monotonic()
    while time.monotonic() < deadline:
        try:
            chunk = receive(CHUNK)
        except TimeoutError:
            if not channel.exit_status_ready():
                heard = time.monotonic()  # how long it was silent before its end says nothing
            elif time.monotonic() > heard + SILENCE:
                return
            continue
        if not chunk:
            return
        heard = time.monotonic()
        kept += chunk
        if len(kept) > 2 * limit:
            del kept[:-limit]


def pump(local: socket.socket, channel: Channel) -> None:
    """Relay between a socket of this machine and a channel until both have ended; closes both."""

    def send() -> None:
        with contextlib.suppress(OSError, EOFError):
            while chunk := local.recv(CHUNK):
                channel.sendall(chunk)
        with contextlib.suppress(OSError, EOFError):
            channel.shutdown_write()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with contextlib.suppress(OSError, EOFError):
        while chunk := channel.recv(CHUNK):
            local.sendall(chunk)
    with contextlib.suppress(OSError):
        # its end passes on what ended; a channel that is closed will take nothing more either
        local.shutdown(socket.SHUT_RDWR if channel.closed else socket.SHUT_WR)
    sender.join()
    channel.close()
    local.close()
