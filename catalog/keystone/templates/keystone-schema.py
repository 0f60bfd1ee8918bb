#!/usr/bin/python3
"""Brings the schema of Keystone's database up to date.

MariaDB commits every statement of a migration by itself. A first db_sync that was interrupted leaves tables but no recorded version, and the next
one would stop at the first table that exists. No Keystone can have run on such a schema, so nothing is lost by dropping it and starting over. A
database with a recorded version, of today's migrations or of the ones before them, is left alone.
"""
import configparser
import os
import sys
import urllib.parse

import pymysql

MANAGE = "/usr/local/sbin/lichen-keystone-manage"


def connect():
    config = configparser.RawConfigParser(strict=False)
    config.read("/etc/keystone/keystone.conf")
    url = urllib.parse.urlsplit(config.get("database", "connection"))
    name = url.path.lstrip("/")
    unquote = urllib.parse.unquote
    return name, pymysql.connect(host=url.hostname, port=url.port or 3306, user=unquote(url.username), password=unquote(url.password), database=name)


def drop_unfinished(name, cursor):
    cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (name,))
    tables = {row[0] for row in cursor.fetchall()}
    if not tables or "migrate_version" in tables:
        return
    if "alembic_version" in tables and cursor.execute("SELECT version_num FROM alembic_version") > 0:
        return
    print(f"dropping {len(tables)} tables of a first db_sync that was interrupted")
    cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
    for table in sorted(tables):
        cursor.execute(f"DROP TABLE `{table}`")


try:
    database, connection = connect()
    with connection:
        with connection.cursor() as cursor:
            drop_unfinished(database, cursor)
        connection.commit()
except pymysql.MySQLError as error:
    print(f"the database that keystone.conf names: {error.args[-1]} ({error.args[0]})", file=sys.stderr)
    sys.exit(1)


sys.stdout.flush()
os.execv(MANAGE, [MANAGE, "db_sync"])
