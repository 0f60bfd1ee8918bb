#!/usr/bin/python3
"""Makes this node's server a member of the cluster of its group, and says whether it is one. Servers are named by the addresses of their nodes.

    cluster forget OWN OTHER...         lets the others forget a former server of this node, of which the node has no data (it was installed anew)
    cluster join OWN FIRST              joins the first, if this server stands alone; refused when it has virtual hosts, which would be lost
    cluster leave OWN STAYING...        stops this server for good and lets the others forget it; also when it does not run any more
    cluster tidy OWN ADDRESS...         forgets members that are none of these and do not run: nobody is there to say goodbye for them
    cluster is-forgotten|is-joined|is-left|is-tidy …   exit code 0 when there is nothing to do; the same arguments
    cluster is-settled OWN              exit code 0 when no mirror still lacks messages, so another server may be restarted
    cluster is-whole OWN ADDRESS... [without ADDRESS...]   exit code 0 when this server sees all of these running, and none but these and those on their way out
"""
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

DATA = Path("/var/lib/rabbitmq/mnesia")
UNIT = "rabbitmq-server.service"
# The port on which servers talk to each other.
DISTRIBUTION_PORT = 25672
# Copying a queue blocks it, so this is what is left to a large one before its server goes all the same.
SYNC_LIMIT_S = 120
# Queues of which a mirror that runs lacks messages. A server that is away has no mirror.
UNSYNCHRONISED = (
    "length([Q || Q <- rabbit_amqqueue:list(), "
    "[{slave_pids, S}, {synchronised_slave_pids, Y}] <- [catch rabbit_amqqueue:info(Q, [slave_pids, synchronised_slave_pids])], "
    "is_list(S), is_list(Y), length(S) > length(Y)])."
)


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def name(address):
    return f"rabbit@{address}"


def ask(address, *words):
    """What rabbitmqctl prints about the server of this address, or None and why."""
    result = subprocess.run(["rabbitmqctl", "--quiet", "--node", name(address), "--timeout", "60", *words], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return result.stdout, ""
    return None, (result.stderr or result.stdout).strip()


def demand(address, *words):
    printed, problem = ask(address, *words)
    if printed is None:
        fail(f"rabbitmqctl {' '.join(words)} of {name(address)}: {problem}")
    return printed


def read_status(address):
    """Addresses of the members, and of those that run, as this server sees them; None when it does not answer."""
    try:
        # saves the seconds that rabbitmqctl takes to find out the same
        socket.create_connection((address, DISTRIBUTION_PORT), timeout=3).close()
    except OSError:
        return None
    printed, _ = ask(address, "cluster_status", "--formatter", "json")
    if printed is None:
        return None
    status = json.loads(printed)
    addresses = lambda names: {each.split("@", 1)[1] for each in names}
    return addresses(status["disk_nodes"] + status["ram_nodes"]), addresses(status["running_nodes"])


def read_members(own):
    """Members as the server of this node wrote them down, running or not; none when it has never been started."""
    try:
        return set(re.findall(r"rabbit@([0-9A-Fa-f.:]+)", (DATA / name(own) / "cluster_nodes.config").read_text()))
    except FileNotFoundError:
        return set()


def who_remembers(own, others):
    return next((other for other in others if own in (read_status(other) or (set(), set()))[0]), None)


def is_running():
    return subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0


def is_forgotten(own, *others):
    if not read_members(own) and (other := who_remembers(own, others)):
        fail(f"{name(own)} has no data, and {name(other)} takes it for a member that has")


def forget(own, *others):
    if other := who_remembers(own, others):
        demand(other, "forget_cluster_node", name(own))


def is_joined(own, first):
    if own != first and first not in read_members(own):
        fail(f"{name(own)} is no member of the cluster of {name(first)}")


def join(own, first):
    hosts = [each["name"] for each in json.loads(demand(own, "list_vhosts", "--formatter", "json")) if each["name"] != "/"]
    if hosts:
        fail(f"{name(own)} stands alone and has virtual hosts ({', '.join(sorted(hosts))}), which it would lose by joining {name(first)}: delete them, or take the node out of the group")
    demand(own, "stop_app")
    demand(own, "join_cluster", name(first))
    demand(own, "start_app")


def is_left(own, *staying):
    if is_running() or read_members(own):
        fail(f"{name(own)} has not been left")
    statuses = [status for status in map(read_status, staying) if status]
    if not statuses:
        fail(f"none of {', '.join(map(name, staying))} answers, so none can forget {name(own)}")
    if own in statuses[0][0]:
        fail(f"{name(own)} is still a member")


def leave(own, *staying):
    until = time.monotonic() + SYNC_LIMIT_S
    while is_running() and ask(own, "eval", UNSYNCHRONISED)[0] not in (None, "0\n") and time.monotonic() < until:
        time.sleep(1)
    subprocess.run(["systemctl", "disable", "--now", UNIT], check=True)
    if other := who_remembers(own, staying):
        demand(other, "forget_cluster_node", name(own))
    # It belongs to a cluster that this server is no part of any more, with which it would not start; the messages are with the others.
    for path in DATA.glob(f"{name(own)}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def find_dead(own, planned):
    strangers = read_members(own) - set(planned)
    if not strangers:
        return []
    status = read_status(own)
    if status is None:
        fail(f"{name(own)} does not answer")
    return sorted(strangers & status[0] - status[1])


def is_tidy(own, *planned):
    if dead := find_dead(own, planned):
        fail(f"members that do not run and belong to no node: {', '.join(map(name, dead))}")


def tidy(own, *planned):
    for address in find_dead(own, planned):
        demand(own, "forget_cluster_node", name(address))


def is_settled(own):
    count = demand(own, "eval", UNSYNCHRONISED).strip()
    if count != "0":
        fail(f"mirrors of {count} queues still lack messages")


def is_whole(own, *words):
    at = words.index("without") if "without" in words else len(words)
    planned, going = set(words[:at]), set(words[at + 1:])
    status = read_status(own)
    if status is None:
        fail(f"{name(own)} does not answer")
    members, running = status
    if missing := planned - running:
        fail(f"{name(own)} does not see running: {', '.join(map(name, sorted(missing)))}")
    if strangers := members - planned - going:
        fail(f"{name(own)} has members that belong to no node: {', '.join(map(name, sorted(strangers)))}")


commands = [forget, is_forgotten, join, is_joined, leave, is_left, tidy, is_tidy, is_settled, is_whole]
{each.__name__.replace("_", "-"): each for each in commands}[sys.argv[1]](*sys.argv[2:])
