#!/usr/bin/python3
"""Exit code 0 when Keystone gives its administrator a token for his project, with the endpoints of the plan in the catalogue; otherwise one line that says what was found."""
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request


def last_cause():
    """The last line of the service in the journal that names an error, or nothing."""
    # what it printed before it answered may be on its way there still
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    command = ["journalctl", "--unit=keystone.service", "--lines=500", "--output=cat", "--no-pager", "--quiet"]
    lines = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()
    causes = [line for line in lines if re.search(r"(Error|Exception|Refused)\b.*:", line)]
    return f"; last in its journal: {causes[-1].strip()}" if causes else ""


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


with open("/etc/keystone/lichen-check.json", encoding="utf-8") as file:
    wanted = json.load(file)

domain = {"id": "default"}
user = {"name": wanted["user"], "domain": domain, "password": wanted["password"]}
scope = {"project": {"name": wanted["project"], "domain": domain}}
body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
request = urllib.request.Request(wanted["url"] + "/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
# the address is a node of ours: a proxy from the environment has no business between
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(request, timeout=30) as answer:
        token = json.load(answer)["token"]
except urllib.error.HTTPError as error:
    if error.code == 401:
        fail(f"{wanted['url']}: no token for user {wanted['user']} in project {wanted['project']}: not known there, or with another password (401)")
    fail(f"{wanted['url']}: no token for user {wanted['user']}: HTTP {error.code}{last_cause()}")
except OSError as error:
    fail(f"{wanted['url']}: {error}{last_cause()}")

if "admin" not in [role["name"] for role in token["roles"]]:
    fail(f"user {wanted['user']} lacks the role admin in project {wanted['project']}")
found = {}
for service in token["catalog"]:
    if service["type"] == "identity":
        found.update({each["interface"]: each["url"] for each in service["endpoints"] if each["region"] == wanted["region"]})
for interface, url in wanted["endpoints"].items():
    if found.get(interface) != url:
        fail(f"{interface} endpoint of identity in region {wanted['region']}: wanted {url}, found {found.get(interface, 'none')}")
