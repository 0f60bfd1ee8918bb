#!/usr/bin/python3
"""Exit code 0 when the identity service gives a token for the credentials in the environment (OS_AUTH_URL and so on); otherwise one line that says what was found."""
import json
import os
import sys
import urllib.error
import urllib.request

environment = os.environ
url = environment["OS_AUTH_URL"] + "/auth/tokens"
user = {"name": environment["OS_USERNAME"], "domain": {"name": environment["OS_USER_DOMAIN_NAME"]}, "password": environment["OS_PASSWORD"]}
scope = {"project": {"name": environment["OS_PROJECT_NAME"], "domain": {"name": environment["OS_PROJECT_DOMAIN_NAME"]}}}
body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
# the address is a node of ours: a proxy from the environment has no business between
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}), timeout=30).close()
except urllib.error.HTTPError as error:
    sys.exit(f"{url}: no token for user {user['name']} in project {environment['OS_PROJECT_NAME']}: HTTP {error.code}")
except OSError as error:
    sys.exit(f"{url}: {error}")
