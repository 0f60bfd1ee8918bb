#!/usr/bin/python3
"""Brings the schema of a service's databases up to date, and says whether it is.

    database FILE is-current    exit code 0 when it is; otherwise a line that says what is left to do
    database FILE               runs the service's own program for it

FILE (JSON): `package` whose version the schema belongs to, `databases`, and `commands` that are run as `user`: each a list of arguments, or
{"argv": LIST, "unless": {"database": NAME, "sql": SELECT}}, which is left out when the query gives a row.

MariaDB commits every statement of a migration by itself, so one that was interrupted may leave a schema which the next one cannot go on from. The
comment of the database tells what may be done about it: it is "unfinished" while a first migration runs. No service can have run on such a
schema, so nothing is lost by dropping its tables and starting over. A database that had tables before is never emptied. After a migration the comment
names the package's version and the revisions in the database, so that looking costs one query and no start of the service's program.
"""
import json
import re
import subprocess
import sys

import pymysql

UNFINISHED = "lichen: unfinished"


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def connect(database):
    try:
        return pymysql.connect(host=database["host"], port=database["port"], user=database["user"], password=database["password"], database=database["database"], autocommit=True, connect_timeout=10)
    except pymysql.MySQLError as error:
        fail(f"the database {database['database']} at {database['host']}:{database['port']}: {error.args[-1]} ({error.args[0]})")


def ask(cursor, sql, *values):
    cursor.execute(sql, values)
    return [row[0] for row in cursor.fetchall()]


def comment_of(cursor, name):
    return (ask(cursor, "SELECT schema_comment FROM information_schema.schemata WHERE schema_name = %s", name) or [""])[0]


def write_comment(cursor, name, comment):
    cursor.execute(f"ALTER DATABASE `{name}` COMMENT = %s", (comment,))


def tables_of(cursor, name):
    return ask(cursor, "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name", name)


def installed_version(package):
    found = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", package], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        fail(f"package {package} is not installed")
    return found.stdout


def complete_comment(cursor, name, version):
    """What the comment is when the schema is that of the installed package."""
    tables = tables_of(cursor, name)
    revisions = []
    if "alembic_version" in tables:
        revisions += ask(cursor, "SELECT version_num FROM alembic_version ORDER BY version_num")
    if "migrate_version" in tables:
        revisions += [str(each) for each in ask(cursor, "SELECT version FROM migrate_version ORDER BY repository_id")]
    return f"lichen: {version} at {','.join(revisions)}" if revisions else ""


def begin(cursor, name):
    """Before the first migration, and before one that follows a first one which was interrupted."""
    tables = tables_of(cursor, name)
    if tables and comment_of(cursor, name) == UNFINISHED:
        print(f"dropping {len(tables)} tables of {name}: its first migration was interrupted")
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        for table in tables:
            cursor.execute(f"DROP TABLE `{table}`")
        tables = []
    if not tables:
        write_comment(cursor, name, UNFINISHED)


# Arguments may hold a password: they travel on stdin, where nobody sees them in the list of processes. It shows the first words alone.
RUNNER = "import json, runpy, sys; sys.argv = json.load(sys.stdin); runpy.run_path(sys.argv[0], run_name='__main__')"
CAUSE = re.compile(r"(Error|Exception|Refused)[^:]*: ")
NOISE = re.compile(r"^[-0-9:. ]+(ERROR|CRITICAL) [a-z.]+:? *")


def run(command, user):
    """Runs the program as the service's user, and shows what it prints but the traceback of eventlet at its end, which is harmless."""
    argv = ["runuser", "-u", user, "--", "/usr/bin/python3", "-W", "ignore", "-c", RUNNER, *command[:3]]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    child.stdin.write(json.dumps([f"/usr/bin/{command[0]}", *command[1:]]))
    child.stdin.close()
    cause = None
    is_noise = False
    for line in child.stdout:
        is_noise = is_noise or line.startswith("Exception ignored in: <function _removeHandlerRef")
        if is_noise:
            continue
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        print(line, end="", flush=True)
        if CAUSE.search(line):
            cause = line.strip()
    code = child.wait()
    if code != 0:
        fail(f"{' '.join(command[:3])}: exit code {code}" + (f": {NOISE.sub('', cause)}" if cause else ""))


def holds(cursors, unless):
    """Whether the query gives a row; without its table it does not."""
    try:
        return cursors[unless["database"]].execute(unless["sql"]) > 0
    except pymysql.err.ProgrammingError:
        return False


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    version = installed_version(config["package"])
    cursors = {database["database"]: connect(database).cursor() for database in config["databases"]}
    commands = [{"argv": each} if isinstance(each, list) else each for each in config["commands"]]
    if sys.argv[2:] == ["is-current"]:
        for name, cursor in cursors.items():
            found = comment_of(cursor, name)
            if not found or found != complete_comment(cursor, name, version):
                fail(f"the schema of {name} is not known to be that of {config['package']} {version} (found: {found or 'nothing'})")
        for command in commands:
            if "unless" in command and not holds(cursors, command["unless"]):
                fail(f"left to do: {' '.join(command['argv'][:3])}")
        return
    for name, cursor in cursors.items():
        begin(cursor, name)
    for command in commands:
        # asked again each time: a command may take longer than a server keeps an idle connection
        if "unless" in command and holds({each["database"]: connect(each).cursor() for each in config["databases"]}, command["unless"]):
            continue
        run(command["argv"], config["user"])
    for database in config["databases"]:
        cursor = connect(database).cursor()
        write_comment(cursor, database["database"], complete_comment(cursor, database["database"], version))


main()
