#!/usr/bin/python3
"""Asks a service's API whether the service is well: exit code 0, or one line that says what was found.

    api-check FILE

FILE (JSON): who asks (`url` of the identity service, `user`, `password`, `project`, `domain`, `region`), `units` of systemd whose journals may tell a cause, the name
of the `node`, and `expects`, a list of
    {"endpoint": TYPE, "public": URL}             the catalogue has this public endpoint of the service in the region; %(tenant_id)s or %(project_id)s in it is the project
    {"get": PATH, "of": TYPE}                     the service answers with 200 to a GET of PATH, with a token
    {"compute": HOST}                             nova-compute on HOST is up, not disabled, and mapped in its cell
    {"services": [NAME], "of": TYPE}              each of these has a process that is up, on this node (compute, volumev3, orchestration); NAME@BACKEND: with that backend
    {"agents": [NAME]}                            each of these network agents on this node is alive
"""
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request

# the addresses are nodes of ours: a proxy from the environment has no business between
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# how the processes of a service are asked for: path, headers, and the key of their state. Since 3.49 the state of backends is told too.
PROCESSES = {
    "compute": ("/os-services", {}, "state"),
    "volumev3": ("/os-services", {"OpenStack-API-Version": "volume 3.49"}, "state"),
    "orchestration": ("/services", {}, "status"),
}


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def last_cause(units):
    """The last line of the units in the journal that names an error, or nothing."""
    command = ["journalctl", "--lines=500", "--output=cat", "--no-pager", "--quiet", *[f"--unit={unit}" for unit in units]]
    lines = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()
    causes = [line for line in lines if re.search(r"(Error|Exception|Refused)\b.*:", line)]
    return f"; last in its journal: {causes[-1].strip()[:600]}" if causes else ""


class Cloud:
    def __init__(self, config):
        self.config = config
        domain = {"name": config["domain"]}
        user = {"name": config["user"], "domain": domain, "password": config["password"]}
        scope = {"project": {"name": config["project"], "domain": domain}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        url = config["url"].rstrip("/") + "/auth/tokens"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with OPENER.open(request, timeout=30) as answer:
                self.token = answer.headers["X-Subject-Token"]
                token = json.load(answer)["token"]
                self.catalog = token["catalog"]
                self.project = token["project"]["id"]
        except urllib.error.HTTPError as error:
            fail(f"{url}: no token for user {config['user']} in project {config['project']}: HTTP {error.code}")
        except OSError as error:
            fail(f"{url}: {error}")

    def endpoint(self, kind, interface="public"):
        region = self.config["region"]
        for service in self.catalog:
            if service["type"] != kind:
                continue
            for each in service["endpoints"]:
                if each["interface"] == interface and each["region"] == region:
                    return each["url"]
            elsewhere = sorted({each["region"] for each in service["endpoints"]})
            fail(f"the catalogue has no {interface} endpoint of {kind} in region {region}, but in {', '.join(elsewhere) or 'none'}")
        fail(f"the catalogue has no service of type {kind}")

    def get(self, kind, path, headers=None):
        url = self.endpoint(kind, "internal").rstrip("/") + path
        request = urllib.request.Request(url, headers={"X-Auth-Token": self.token, **(headers or {})})
        try:
            with OPENER.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            fail(f"{url}: HTTP {error.code}{last_cause(self.config['units'])}")
        except (OSError, ValueError) as error:
            fail(f"{url}: {error}{last_cause(self.config['units'])}")


def check(cloud, expected):
    node = cloud.config["node"]
    causes = lambda: last_cause(cloud.config["units"])
    if "endpoint" in expected:
        found = cloud.endpoint(expected["endpoint"])
        wanted = re.sub(r"%\((tenant|project)_id\)s", cloud.project, expected["public"])
        if found != wanted:
            fail(f"public endpoint of {expected['endpoint']} in region {cloud.config['region']}: wanted {wanted}, found {found}")
    if "get" in expected:
        cloud.get(expected["of"], expected["get"])
    if "compute" in expected:
        host = expected["compute"]
        found = cloud.get("compute", f"/os-services?binary=nova-compute&host={host}")["services"]
        if not found:
            fail(f"nova-compute on {host} has not reported to the compute service yet{causes()}")
        if found[0]["state"] != "up":
            fail(f"nova-compute on {host} is {found[0]['state']} (last heard of at {found[0]['updated_at']}){causes()}")
        hypervisors = cloud.get("compute", "/os-hypervisors/detail", {"X-OpenStack-Nova-API-Version": "2.53"})["hypervisors"]
        if host not in [each["service"]["host"] for each in hypervisors]:
            fail(f"nova-compute on {host} is up, but not mapped in its cell yet: no server can be put on it")
    if "services" in expected:
        path, headers, state = PROCESSES[expected["of"]]
        processes = cloud.get(expected["of"], path, headers)["services"]
        for name in expected["services"]:
            binary, _, backend = name.partition("@")
            found = [each for each in processes if each["binary"] == binary and each["host"] == (f"{node}@{backend}" if backend else node)]
            if not found:
                fail(f"{name} on {node} has not reported yet{causes()}")
            # one that was started anew may be listed with those before it, which are down
            up = [each for each in found if each[state] == "up"]
            if not up:
                last = max(found, key=lambda each: each["updated_at"] or "")
                fail(f"{name} on {node} is {last[state]} (last heard of at {last['updated_at']}){causes()}")
            if backend and up[0]["backend_state"] != "up":
                fail(f"{name} on {node} is up, but its backend is not: {up[0]['backend_state'] or 'not heard of yet'}{causes()}")
    if "agents" in expected:
        found = {each["binary"]: each for each in cloud.get("network", f"/v2.0/agents?host={node}")["agents"]}
        for name in expected["agents"]:
            if name not in found:
                fail(f"{name} on {node} has not reported to the network service yet{causes()}")
            if not found[name]["alive"]:
                fail(f"{name} on {node} is not alive (last heard of at {found[name]['heartbeat_timestamp']}){causes()}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    cloud = Cloud(config)
    for expected in config["expects"]:
        check(cloud, expected)


main()
