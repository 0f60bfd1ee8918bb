#!/usr/bin/python3
"""The keypair with which compute nodes of one cloud reach each other when servers move: the same on all of them, derived from the secret in MIGRATION_SECRET.

    migration-keys is-written PORT    exit code 0 when all files are there as they should be
    migration-keys write PORT

It is the key of a node's SSH server, and that of its clients, so who is who is certain, and a further node changes no other. Clients are libvirt, as root without
capabilities, and nova; each has a file of its own, because neither can read the other's.
"""
import hashlib
import os
import pwd
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DIRECTORY = "/etc/nova-migration"
PRIVATE = {"key": pwd.getpwnam("root"), "nova_key": pwd.getpwnam("nova")}


def public_of(key):
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def is_private(name, owner, public):
    """Whether the file holds the private key of the public one, for its owner alone."""
    path = os.path.join(DIRECTORY, name)
    try:
        with open(path, "rb") as file:
            status, key = os.fstat(file.fileno()), serialization.load_ssh_private_key(file.read(), None)
    except (OSError, ValueError):
        return False
    return public_of(key) == public and (status.st_uid, status.st_mode & 0o777) == (owner.pw_uid, 0o600)


def is_public(name, text):
    path = os.path.join(DIRECTORY, name)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == text and os.fstat(file.fileno()).st_mode & 0o777 == 0o644
    except (OSError, ValueError):
        return False


def write(name, content, mode, owner):
    """Whole or not at all, and never readable for longer than it is to be."""
    path = os.path.join(DIRECTORY, name)
    with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        os.fchmod(file.fileno(), mode)
        file.write(content)
    os.replace(f"{path}.new", path)


def main():
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(os.environ["MIGRATION_SECRET"].encode()).digest())
    public = public_of(key)
    texts = {"authorized_keys": f"restrict {public} nova\n", "known_hosts": f"[*]:{int(sys.argv[2])} {public}\n"}
    if sys.argv[1] == "is-written":
        well = all(is_private(name, owner, public) for name, owner in PRIVATE.items()) and all(is_public(name, text) for name, text in texts.items())
        sys.exit(0 if well else 1)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    for name, owner in PRIVATE.items():
        write(name, private, 0o600, owner)
    for name, text in texts.items():
        write(name, text.encode(), 0o644, PRIVATE["key"])


main()
