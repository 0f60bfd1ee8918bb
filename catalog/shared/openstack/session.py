# the addresses are nodes of ours: a proxy from the environment has no business between
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Session:
    """The APIs of a cloud with one user's token, which is asked for again before it ends. `who`: `url` of the identity service, `user`, `password`, `project`, `domain`, `region`."""

    def __init__(self, who):
        self.who = who
        self.until = 0.0

    def login(self):
        domain = {"name": self.who["domain"]}
        user = {"name": self.who["user"], "domain": domain, "password": self.who["password"]}
        scope = {"project": {"name": self.who["project"], "domain": domain}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        request = urllib.request.Request(self.who["url"] + "/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with OPENER.open(request, timeout=30) as answer:
            self.token = answer.headers["X-Subject-Token"]
            token = json.load(answer)["token"]
        self.catalog = token["catalog"]
        self.project = token["project"]["id"]
        self.until = time.monotonic() + 600

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


def describe(error):
    """An error of a request in words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url}: HTTP {error.code}: {error.read().decode(errors='replace')[:600]}"
    return str(error)
