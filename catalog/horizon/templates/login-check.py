#!/usr/bin/python3
"""Exit code 0 when the dashboard shows its login form, lets the administrator in, and knows him at the next page; otherwise one line that says what was found.

    login-check FILE

FILE (JSON): `url` of the dashboard, and who logs in (`user`, `password`, `domain`).

The next page tells what the login alone does not: sessions that are in the memory of one process are unknown to the others.
"""
import http.cookiejar
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

LOG = "/var/log/openstack-dashboard/error.log"
FORM = "/auth/login/"
# a page for people who are logged in that asks no other service
PAGE = "/settings/"

# the address is a node of ours: a proxy from the environment has no business between
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def last_cause():
    """The last line of the dashboard's log that names an error, or nothing."""
    try:
        with open(LOG, encoding="utf-8", errors="replace") as file:
            causes = [line for line in file.readlines()[-500:] if re.search(r"(Error|Exception|Refused|ERROR)\b", line)]
    except OSError:
        causes = []
    return f"; last in {LOG}: {causes[-1].strip()[:600]}" if causes else ""


def ask(url, fields=None):
    """Where the answer is from, after redirections, and its text."""
    try:
        with OPENER.open(urllib.request.Request(url, urllib.parse.urlencode(fields).encode() if fields else None, {"Referer": url}), timeout=60) as answer:
            return answer.url, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        fail(f"{url}: HTTP {error.code}{last_cause()}")
    except OSError as error:
        fail(f"{url}: {error}{last_cause()}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    form = config["url"] + FORM
    _, text = ask(form)
    token = re.search(r"""name=["']csrfmiddlewaretoken["'] value=["']([^"']+)["']""", text)
    if not token:
        fail(f"{form}: there is no login form")
    fields = {"csrfmiddlewaretoken": token[1], "region": "default", "domain": config["domain"], "username": config["user"], "password": config["password"], "next": PAGE}
    url, _ = ask(form, fields)
    if url == form:
        fail(f"{form}: {config['user']} is not let in{last_cause()}")
    if urllib.parse.urlsplit(url).path == FORM:
        fail(f"{form}: {config['user']} is let in, and not known any more at {PAGE}: the cache does not keep sessions{last_cause()}")


main()
