#!/usr/bin/python3
"""Gives a consumer its virtual host and user, and says whether it has them.

    access grant HOST:PORT VHOST USER   makes both, or sets password and permissions again
    access has HOST:PORT VHOST USER     exit code 0 when the user can log in and do what it needs to; otherwise a line that says what was found
    access answers HOST:PORT            exit code 0 when a RabbitMQ server answers there

The user's password stands in the variable AMQP_PASSWORD.
"""
import json
import os
import socket
import subprocess
import sys


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def grant(_server, virtual_host, user):
    # one call of the client for all of it: each takes more than a second of its own
    definitions = {
        "vhosts": [{"name": virtual_host}],
        "users": [{"name": user, "password": os.environ["AMQP_PASSWORD"], "tags": ""}],
        "permissions": [{"user": user, "vhost": virtual_host, "configure": ".*", "write": ".*", "read": ".*"}],
    }
    result = subprocess.run(["rabbitmqctl", "--quiet", "import_definitions", "--format", "json"], input=json.dumps(definitions), text=True, check=False)
    sys.exit(result.returncode)


def has(server, virtual_host, user):
    import amqp

    try:
        with amqp.Connection(host=server, userid=user, password=os.environ["AMQP_PASSWORD"], virtual_host=virtual_host, login_method="PLAIN", connect_timeout=30) as connection:
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True, auto_delete=True).queue
            channel.basic_publish(amqp.Message(b"lichen"), routing_key=queue)
            channel.basic_get(queue, no_ack=True)
    except (amqp.AMQPError, OSError) as error:
        fail(f"user {user} cannot use virtual host {virtual_host} of {server}: {error}")


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
