"""A certificate authority of our own, made with the openssl command: good certificates, and those that nobody takes."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

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
