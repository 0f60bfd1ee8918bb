import hashlib
import json
import os
import time
import urllib.error
import urllib.request

# the addresses are nodes of ours: a proxy from the environment has no business between
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Session:
    """The APIs of a cloud with one user's token, which is asked for again before it ends. `who`: `url` of the identity service, `user`, `password`, `project`, `domain`, `region`."""

    def __init__(self, who):
        self.who = who
        self.until = 0.0

    def login(self, kept=None):
        """A new token; with `kept`, the path of a file, the one that is kept there, while it is good. Whether it is that one. A token costs the identity service a quarter of a second of a processor."""
        who = hashlib.sha256(json.dumps(self.who, sort_keys=True).encode()).hexdigest()
        found = read_kept(kept) if kept else None
        is_kept = found is not None and found["who"] == who and found["until"] > time.time()
        if not is_kept:
            found = {"who": who, "until": time.time() + 600, **self.ask_token()}
            if kept:
                write_kept(kept, found)
        self.token, self.catalog, self.project = found["token"], found["catalog"], found["project"]
        self.until = time.monotonic() + found["until"] - time.time()
        return is_kept

    def ask_token(self):
        domain = {"name": self.who["domain"]}
        user = {"name": self.who["user"], "domain": domain, "password": self.who["password"]}
        scope = {"project": {"name": self.who["project"], "domain": domain}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        request = urllib.request.Request(self.who["url"] + "/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with OPENER.open(request, timeout=30) as answer:
            token = json.load(answer)["token"]
            return {"token": answer.headers["X-Subject-Token"], "catalog": token["catalog"], "project": token["project"]["id"]}

    def endpoint(self, kind, interface):
        """The URL of a service of this type in the region. Raises LookupError, which says what is there."""
        if time.monotonic() > self.until:
            self.login()
        region = self.who["region"]
        services = [each for each in self.catalog if each["type"] == kind]
        if not services:
            raise LookupError(f"the catalogue has no service of type {kind}")
        endpoints = [each for service in services for each in service["endpoints"]]
        found = next((each["url"] for each in endpoints if each["interface"] == interface and each["region"] == region), None)
        if found is None:
            elsewhere = sorted({each["region"] for each in endpoints})
            raise LookupError(f"the catalogue has no {interface} endpoint of {kind} in region {region}, but in {', '.join(elsewhere) or 'none'}")
        return found

    def call(self, kind, method, path, body=None, headers=None):
        """What a service answers to a request, parsed; nothing for an empty answer."""
        url = self.endpoint(kind, "internal").rstrip("/") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"X-Auth-Token": self.token, "Content-Type": "application/json", **(headers or {})}, method=method)
        with OPENER.open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def read_kept(path):
    """What was kept there; nothing when it cannot be read, whatever the reason."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= {"who", "until", "token", "catalog", "project"} else None


def write_kept(path, content):
    with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(f"{path}.new", path)


def describe(error):
    """An error of a request in words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url}: HTTP {error.code}: {error.read().decode(errors='replace')[:600]}"
    return str(error)
