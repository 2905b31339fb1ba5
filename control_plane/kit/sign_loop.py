"""Signs for another process: reads messages from the socket on its stdin and writes 64-byte signatures in their order.

Every frame is a big-endian length and as many bytes. The first bit of a length marks an Ed25519 private key: what comes
after it is signed with that key. The program ends when the other end does. It imports next to nothing, so that it
starts at once and stays small.
"""

import importlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

IS_KEY = 1 << 31
READ_BYTES = 1 << 18
SIGNATURE_BYTES = 64


def frames(buffer: bytearray) -> Iterator[tuple[bool, bytes]]:
    """Take whole frames out of a buffer; leave what is not whole yet."""
    at = 0
    while len(buffer) - at >= 4:
        head = int.from_bytes(buffer[at : at + 4], "big")
        end = at + 4 + (head & ~IS_KEY)
        if end > len(buffer):
            break
        yield bool(head & IS_KEY), bytes(buffer[at + 4 : end])
        at = end
    del buffer[:at]


def signing_with(secret: bytes) -> Callable[[bytes], bytes]:
    """Sign by libsodium where it is installed: it takes two thirds of OpenSSL's time."""
    try:
        key = importlib.import_module("nacl.signing").SigningKey(secret)
    except ImportError:
        return Ed25519PrivateKey.from_private_bytes(secret).sign
    return lambda message: bytes(key.sign(message).signature)


def serve(connection: socket.socket) -> None:
    sign: Callable[[bytes], bytes] | None = None
    buffer = bytearray()
    while data := connection.recv(READ_BYTES):
        buffer += data
        signed = []
        for is_key, message in frames(buffer):
            if is_key:
                sign = signing_with(message)
            elif sign is not None:
                signed.append(sign(message))
        connection.sendall(b"".join(signed))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process whose end ends this one
    serve(socket.socket(fileno=sys.stdin.fileno()))
