"""A certificate authority of our own, made with the openssl command: good certificates, and those that clients refuse.

And a proxy that shows them, in front of a service, and reads along.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 20.0

CONFIG = """
[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:false
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = ${{ENV::NAMES}}
"""

LONG_AGO, PAST, FUTURE, FAR = "20200101000000Z", "20210101000000Z", "20900101000000Z", "20950101000000Z"
"""The moments between which a certificate may be valid."""


class Authority:
    """A CA that lives in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._config = folder / "openssl.cnf"
        self._config.write_text(CONFIG.format(folder=folder))
        (folder / "index.txt").touch()
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        self._new_key(self._key)
        self._run("req", "-x509", "-new", "-key", self._key, "-subj", "/CN=our CA", "-days", "9999",
                  "-extensions", "root", "-out", self.certificate)  # fmt: skip

    def server(self, names: str = "IP:127.0.0.1", begins: str = LONG_AGO, ends: str = FAR) -> ssl.SSLContext:
        """Return what a server shows whose certificate is for *names*."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(names, begins, ends))
        return context

    def issue(self, names: str = "IP:127.0.0.1", begins: str = LONG_AGO, ends: str = FAR) -> tuple[Path, Path]:
        """Return the files of a certificate for *names* and of its key."""
        stem = self._folder / f"leaf-{len(list(self._folder.glob('leaf-*.pem')))}"
        key, request, made = stem.with_suffix(".key"), stem.with_suffix(".csr"), stem.with_suffix(".pem")
        self._new_key(key)
        self._run("req", "-new", "-key", key, "-subj", "/CN=a service", "-out", request)
        self._run("ca", "-batch", "-notext", "-cert", self.certificate, "-keyfile", self._key, "-in", request,
                  "-out", made, "-startdate", begins, "-enddate", ends, names=names)  # fmt: skip
        return made, key

    def _new_key(self, path: Path) -> None:
        arguments = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def _run(self, command: str, *arguments: object, names: str = "DNS:nobody") -> None:
        words = [command, "-config", str(self._config), *map(str, arguments)]
        subprocess.run(["openssl", *words], check=True, capture_output=True, env={**os.environ, "NAMES": names})


class Front:
    """Stands in front of a service on this machine that speaks TLS, on *port*: what callers say goes through its hands.

    The first caller is shown the first of *contexts*, the next one the next, and the last is for all that follow.
    """

    def __init__(self, port: int, *contexts: ssl.SSLContext) -> None:
        self._target, self._contexts = ("127.0.0.1", port), list(contexts)
        self._behind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._behind.check_hostname, self._behind.verify_mode = False, ssl.CERT_NONE
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard: list[bytearray] = []
        """What each caller said, oldest first; nothing where it did not like the certificate."""
        self._callers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._run, name="front", daemon=True)]

    def __enter__(self) -> Front:
        self._threads[0].start()
        return self

    def __exit__(self, *_exc: object) -> None:
        for sock in (self._listener, *self._callers):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                caller.settimeout(PATIENCE_S)
                self._callers.append(caller)
                self.heard.append(bytearray())
                context = self._contexts.pop(0) if len(self._contexts) > 1 else self._contexts[0]
                self._threads.append(threading.Thread(target=self._serve, args=(caller, context, self.heard[-1])))
                self._threads[-1].start()

    def _serve(self, caller: socket.socket, context: ssl.SSLContext, heard: bytearray) -> None:
        with suppress(OSError), caller, context.wrap_socket(caller, server_side=True) as here:
            with socket.create_connection(self._target, PATIENCE_S) as plain:
                with self._behind.wrap_socket(plain) as there:
                    self._carry(here, there, heard)

    def _carry(self, here: ssl.SSLSocket, there: ssl.SSLSocket, heard: bytearray) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (here, there):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                selector.select(0 if here.pending() or there.pending() else PATIENCE_S)
                said, answered = _read(here), _read(there)
                if b"" in {said, answered}:
                    return
                heard += said or b""
                there.sendall(said or b"")
                here.sendall(answered or b"")


def _read(sock: ssl.SSLSocket) -> bytes | None:
    """Return what there is to be read, b"" at the end, None where there is nothing just now."""
    sock.settimeout(0)
    try:
        return sock.recv(1 << 16)
    except ssl.SSLWantReadError:
        return None
    finally:
        sock.settimeout(PATIENCE_S)
