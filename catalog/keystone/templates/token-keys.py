#!/usr/bin/python3
"""The keys that tokens are made and known with, in /etc/keystone/fernet-keys: of those there, the one with the highest number makes tokens, and all of them are known.

    token-keys stage|use          the key that all nodes have stands in the variable TOKEN_KEY
    token-keys is-staged|is-used  exit code 0 when there is nothing to do

`stage` puts the key below the others, as number 0, which none has that makes tokens: those of nodes that use it already are known here. `use` gives it the
highest number; the ones before it stay until two more have come, so that tokens made with them are good until they end.
"""
import os
import pwd
import sys

DIRECTORY = "/etc/keystone/fernet-keys"
KEPT = 3


def read_keys():
    """Number → key, of those that are whole: a crash may leave an empty file."""
    keys = {}
    for name in os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []:
        if name.isdigit():
            with open(os.path.join(DIRECTORY, name), encoding="ascii") as file:
                key = file.read().strip()
            if key:
                keys[int(name)] = key
    return keys


def write_key(number, key):
    owner = pwd.getpwnam("keystone")
    os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
    os.chown(DIRECTORY, owner.pw_uid, owner.pw_gid)
    path = os.path.join(DIRECTORY, str(number))
    part = os.path.join(DIRECTORY, f".{number}.part")
    with open(part, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o400)) as file:
        os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, path)
    directory = os.open(DIRECTORY, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def remove(number):
    os.unlink(os.path.join(DIRECTORY, str(number)))


def make_room(keys):
    """Gives each key the next number, the highest first, so that at no moment another one makes tokens, or one is missing."""
    for number in sorted(keys, reverse=True):
        os.rename(os.path.join(DIRECTORY, str(number)), os.path.join(DIRECTORY, str(number + 1)))


def main():
    verb = sys.argv[1]
    wanted = os.environ["TOKEN_KEY"]
    keys = read_keys()
    is_used = max(keys, default=0) > 0 and keys[max(keys)] == wanted
    if verb == "is-staged":
        sys.exit(0 if wanted in keys.values() else 1)
    if verb == "is-used":
        sys.exit(0 if is_used else 1)
    if verb == "stage" and wanted not in keys.values():
        # staged for a rotation that did not come to its end: other nodes may use it
        if 0 in keys:
            make_room(keys)
        write_key(0, wanted)
    if verb == "use" and not is_used:
        write_key(max(keys, default=0) + 1, wanted)
        if keys.get(0) == wanted:
            remove(0)
    if verb == "use":
        for number in sorted(read_keys())[:-KEPT]:
            remove(number)


main()
