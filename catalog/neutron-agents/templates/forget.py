#!/usr/bin/python3
"""Takes the agents of a node out of the network service.

    forget FILE is-done    exit code 0 when the network service knows no agent of the node
    forget FILE            does it: agents that are stopped are removed, with what was scheduled to them

FILE (JSON): who asks, as for api-check, and `node`.
"""
import json
import sys
import urllib.error
import urllib.request

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    domain = {"name": config["domain"]}
    user = {"name": config["user"], "domain": domain, "password": config["password"]}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": {"name": config["project"], "domain": domain}}}}
    try:
        request = urllib.request.Request(config["url"] + "/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with OPENER.open(request, timeout=30) as answer:
            headers = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
            catalog = json.load(answer)["token"]["catalog"]
        endpoints = [each for service in catalog if service["type"] == "network" for each in service["endpoints"]]
        url = next(each["url"] for each in endpoints if each["interface"] == "internal" and each["region"] == config["region"]).rstrip("/")
        with OPENER.open(urllib.request.Request(f"{url}/v2.0/agents?host={config['node']}", headers=headers), timeout=30) as answer:
            agents = json.load(answer)["agents"]
        if sys.argv[2:] == ["is-done"]:
            sys.exit(1 if agents else 0)
        for agent in agents:
            OPENER.open(urllib.request.Request(f"{url}/v2.0/agents/{agent['id']}", headers=headers, method="DELETE"), timeout=60).close()
    except urllib.error.HTTPError as error:
        fail(f"{error.url}: HTTP {error.code}: {error.read().decode(errors='replace')[:600]}")
    except OSError as error:
        fail(f"the network service: {error}")


main()
