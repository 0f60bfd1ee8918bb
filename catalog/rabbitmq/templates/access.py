#!/usr/bin/python3
"""Gives a consumer its virtual host and user, and says whether it has them.

    access grant HOST:PORT VHOST USER [mirrored]   makes both, or sets password and permissions again
    access has HOST:PORT VHOST USER [mirrored]     exit code 0 when the user can log in and do what it needs to; otherwise a line that says what was found
    access answers HOST:PORT                       exit code 0 when a RabbitMQ server answers there

The user's password stands in the variable AMQP_PASSWORD. With `mirrored` each server of the cluster has a copy of the queues. A single server is
not asked about that: what mirrors all is no mirror there.
"""
import json
import os
import socket
import subprocess
import sys


# Queues are mirrored by the server, not declared as quorum queues by the client: clients need not know of it, and queues that were declared before the
# cluster grew are mirrored without being declared anew, which a quorum queue would have to be. Left out are queues of the broker, and those whose
# messages nobody waits for once their one reader is gone: fan-outs and replies of RPC.
# Without `automatic`, a new mirror lacks the messages from before it: a queue that was there when the cluster grew, or while a server was away, would be lost with its leader.
MIRRORS = {
    "name": "lichen-mirrors",
    "pattern": r"^(?!(amq\.)|(.*_fanout_)|(reply_)).*",
    "apply-to": "queues",
    "definition": {"ha-mode": "all", "ha-sync-mode": "automatic"},
}


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def grant(_server, virtual_host, user, *mirrored):
    # one call of the client for all of it: each takes more than a second of its own
    definitions = {
        "vhosts": [{"name": virtual_host}],
        "users": [{"name": user, "password": os.environ["AMQP_PASSWORD"], "tags": ""}],
        "permissions": [{"user": user, "vhost": virtual_host, "configure": ".*", "write": ".*", "read": ".*"}],
        "policies": [{**MIRRORS, "vhost": virtual_host, "priority": 0}] if mirrored else [],
    }
    result = subprocess.run(["rabbitmqctl", "--quiet", "import_definitions", "--format", "json"], input=json.dumps(definitions), text=True, check=False)
    sys.exit(result.returncode)


def check_mirrors(virtual_host):
    result = subprocess.run(["rabbitmqctl", "--quiet", "list_policies", "--vhost", virtual_host, "--formatter", "json"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        fail(f"the policies of virtual host {virtual_host} cannot be read: {(result.stderr or result.stdout).strip()}")
    policies = {each["name"]: each for each in json.loads(result.stdout)}
    found = policies.get(MIRRORS["name"])
    if found is None:
        fail(f"virtual host {virtual_host} has no policy {MIRRORS['name']}")
    found["definition"] = json.loads(found["definition"]) if isinstance(found["definition"], str) else found["definition"]
    if any(found[key] != value for key, value in MIRRORS.items()):
        fail(f"policy {MIRRORS['name']} of virtual host {virtual_host} is another one: {json.dumps(found)}")


def has(server, virtual_host, user, *mirrored):
    import amqp

    try:
        with amqp.Connection(host=server, userid=user, password=os.environ["AMQP_PASSWORD"], virtual_host=virtual_host, login_method="PLAIN", connect_timeout=30) as connection:
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True, auto_delete=True).queue
            channel.basic_publish(amqp.Message(b"lichen"), routing_key=queue)
            channel.basic_get(queue, no_ack=True)
    except (amqp.AMQPError, OSError) as error:
        fail(f"user {user} cannot use virtual host {virtual_host} of {server}: {error}")
    if mirrored:
        check_mirrors(virtual_host)


def answers(server):
    host, port = server.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.settimeout(10)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            head = connection.recv(7)
    except OSError as error:
        fail(f"{server}: {error}")
    # a method frame on channel 0: connection.start
    if head[:3] != b"\x01\x00\x00":
        fail(f"{server}: what answers is no AMQP server (found {head!r})")


{"grant": grant, "has": has, "answers": answers}[sys.argv[1]](*sys.argv[2:])
