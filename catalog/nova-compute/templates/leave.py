#!/usr/bin/python3
"""Takes a node out of the compute service: no new servers, those that are here to other nodes or refused, then its service, its mapping and its resource provider.

    leave FILE is-left                exit code 0 when the compute service does not know the node
    leave FILE POLICY DEADLINE_S      does it; with an error, the node takes servers as before

FILE (JSON): who asks, as for api-check, and `node`. POLICY is what becomes of servers that are here:
    refuse     the node does not leave while there are any
    migrate    they run on while they move (live migration), disks with them
    shelve     they are stopped, kept as an image and started again on another node
"""
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
REASON = "lichen: the node leaves"


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


class Compute:
    """The compute API, with a token that is asked for again before it ends."""

    def __init__(self, config):
        self.config = config
        self.until = 0.0

    def login(self):
        domain = {"name": self.config["domain"]}
        user = {"name": self.config["user"], "domain": domain, "password": self.config["password"]}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": {"name": self.config["project"], "domain": domain}}}}
        request = urllib.request.Request(self.config["url"] + "/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with OPENER.open(request, timeout=30) as answer:
            self.token = answer.headers["X-Subject-Token"]
            catalog = json.load(answer)["token"]["catalog"]
        endpoints = [each for service in catalog if service["type"] == "compute" for each in service["endpoints"]]
        self.url = next(each["url"] for each in endpoints if each["interface"] == "internal" and each["region"] == self.config["region"]).rstrip("/")
        self.until = time.monotonic() + 600

    def call(self, method, path, body=None):
        if time.monotonic() > self.until:
            self.login()
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json", "X-OpenStack-Nova-API-Version": "2.53"}
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), headers, method=method)
        with OPENER.open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def services(self):
        return self.call("GET", "/os-services?binary=nova-compute")["services"]

    def servers(self, host):
        return self.call("GET", f"/servers/detail?all_tenants=1&host={host}")["servers"]

    def server(self, server_id):
        return self.call("GET", f"/servers/{server_id}")["server"]


def name_of(server):
    return f"{server['name']} ({server['id']}, {server['status'].lower()})"


def step(compute, server, policy):
    """The next thing that a server needs to get away from here, when there is one."""
    if server.get("OS-EXT-STS:task_state"):
        return
    action = None
    if policy == "migrate" and server["status"] in ("ACTIVE", "PAUSED"):
        action = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
    elif server["status"] in ("ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED"):
        action = {"shelve": None}
    elif server["status"] == "SHELVED":
        action = {"shelveOffload": None}
    if action is None:
        return
    print(f"server {name_of(server)}: {next(iter(action))}", flush=True)
    compute.call("POST", f"/servers/{server['id']}/action", action)


def bring_back(compute, was, until):
    """Servers that were shelved run again, as they did before."""
    for server_id, status in was.items():
        stopped = False
        while True:
            server = compute.server(server_id)
            if server.get("OS-EXT-STS:task_state") is None:
                if server["status"] == "SHELVED_OFFLOADED":
                    print(f"server {name_of(server)}: unshelve", flush=True)
                    compute.call("POST", f"/servers/{server_id}/action", {"unshelve": None})
                elif server["status"] == "ACTIVE" and status == "SHUTOFF" and not stopped:
                    compute.call("POST", f"/servers/{server_id}/action", {"os-stop": None})
                    stopped = True
                elif server["status"] in ("ACTIVE", "SHUTOFF"):
                    break
                elif server["status"] == "ERROR":
                    fail(f"server {name_of(server)} has left the node and does not come up on another: {server.get('fault', {}).get('message', 'no reason is known')}")
            if time.monotonic() > until:
                fail(f"server {name_of(server)} has left the node, and is not up on another in time")
            time.sleep(2)


def leave(compute, host, policy, deadline_s):
    until = time.monotonic() + deadline_s
    services = compute.services()
    own = next((each for each in services if each["host"] == host), None)
    if own is None:
        return
    servers = compute.servers(host)
    others = [each["host"] for each in services if each["host"] != host and each["state"] == "up" and each["status"] == "enabled"]
    if servers and policy == "refuse":
        fail(f"{host} has servers and is not to leave with them: {', '.join(map(name_of, servers))}; delete or move them, or say what becomes of them (leave {{servers: migrate}} or {{servers: shelve}})")
    if servers and not others:
        fail(f"{host} has servers, and there is no other compute node that is up and enabled to take them: {', '.join(map(name_of, servers))}")
    compute.call("PUT", f"/os-services/{own['id']}", {"status": "disabled", "disabled_reason": REASON})
    try:
        was = {}
        while servers := compute.servers(host):
            for server in servers:
                if policy == "shelve" or server["status"] not in ("ACTIVE", "PAUSED", "MIGRATING"):
                    was.setdefault(server["id"], server["status"])
                step(compute, server, policy)
            if time.monotonic() > until:
                doing = [f"{name_of(each)}: {each.get('OS-EXT-STS:task_state') or each.get('fault', {}).get('message', 'nothing is under way')}" for each in servers]
                fail(f"{host} still has servers after {deadline_s} s: {'; '.join(doing)}")
            time.sleep(2)
        bring_back(compute, {each: status for each, status in was.items() if status in ("ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED")}, until)
    except BaseException:
        compute.call("PUT", f"/os-services/{own['id']}", {"status": "enabled"})
        raise
    # one that runs would come back
    subprocess.run(["systemctl", "stop", "nova-compute.service"], check=True)
    compute.call("DELETE", f"/os-services/{own['id']}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    compute = Compute(config)
    host = config["node"]
    try:
        if sys.argv[2] == "is-left":
            sys.exit(0 if all(each["host"] != host for each in compute.services()) else 1)
        leave(compute, host, sys.argv[2], int(sys.argv[3]))
    except urllib.error.HTTPError as error:
        fail(f"{error.url}: HTTP {error.code}: {error.read().decode(errors='replace')[:600]}")
    except OSError as error:
        fail(f"the compute service: {error}")


main()
