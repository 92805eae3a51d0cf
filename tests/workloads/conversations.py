"""What `drivers.py` asks databases beyond single statements: transactions, several statements in one text, procedures, copies,
cursors on the server, pipelines, notifications. Each function is for every driver that can; its lines carry marks, as there.
"""

import importlib
import io
import os
import time

from servers_of_drivers import HOST, fails, port

SELECT = "SELECT name FROM people WHERE id < %s"
PROCEDURE = """CREATE OR REPLACE PROCEDURE pair(IN most INT, OUT found INT) BEGIN
    SELECT name FROM people WHERE id < most; SELECT COUNT(*) INTO found FROM people; SELECT 1, 2;
END"""


def drained(cursor):
    """The numbers of rows of all results."""
    counts = []
    while True:
        counts.append(len(cursor.fetchall()) if cursor.description else None)
        if not cursor.nextset():
            return counts


def mysql(connection):
    cursor = connection.cursor()
    begin = getattr(connection, "start_transaction", None) or connection.begin
    begin()  # call: mysql begin
    cursor.execute("UPDATE people SET name = 'secret' WHERE id IN (1, 2, 3)")  # call: mysql update
    with fails():
        cursor.execute("INSERT INTO people VALUES (1, 'secret')")  # call: mysql duplicate
    connection.rollback()  # call: mysql rollback
    begin()  # call: mysql begin again
    cursor.execute(SELECT, (3,))  # call: mysql select
    assert len(cursor.fetchall()) == 2
    connection.commit()  # call: mysql commit
    # One text, three results.
    several = "SELECT name FROM people WHERE id < 3; DELETE FROM people WHERE id > 100; SELECT 'secret' UNION SELECT 2"
    cursor.execute(several)  # call: mysql several
    assert drained(cursor) == [2, None, 2]
    with fails():
        cursor.execute("SELECT 1; SELECT secret FROM nosuch")  # call: mysql several error
        drained(cursor)
    cursor.close()
    cursor = connection.cursor()
    # Two results, and a value that comes out by a variable of the session.
    answer = cursor.callproc("pair", (3, 0))  # call: mysql procedure
    if hasattr(cursor, "stored_results"):
        assert [len(result.fetchall()) for result in cursor.stored_results()] == [2, 1]
        return
    assert drained(cursor) == [2, 1, None] and answer == (3, 0)
    cursor.execute("SELECT @_pair_1")  # call: mysql out
    assert cursor.fetchone() == (9,)


def mysqlclient_connect(**more):
    return importlib.import_module("MySQLdb").connect(
        host=HOST, port=port("MY_PORT"), user="shop", database="shop", autocommit=True, **more
    )


def pymysql_connect(**more):
    connection = importlib.import_module("pymysql").connect(
        host=HOST, port=port("MY_PORT"), user="shop", database="shop", autocommit=True, client_flag=1 << 16, **more
    )
    connection.cursor().execute(PROCEDURE)
    return connection


def connector_connect(use_pure, ssl_disabled):
    if not use_pure:
        # Where it cannot be loaded the driver would do without it.
        importlib.import_module("_mysql_connector")
    return importlib.import_module("mysql.connector").connect(
        host=HOST,
        port=port("MY_PORT"),
        user="shop",
        database="shop",
        autocommit=True,
        use_pure=use_pure,
        ssl_disabled=ssl_disabled,
    )


def prepared(connection):
    cursor = connection.cursor(prepared=True)
    for number in (1, 2):
        cursor.execute(SELECT, (number,))  # call: prepared select
        assert len(cursor.fetchall()) == number - 1
    cursor.execute("UPDATE people SET name = %s WHERE id > 100", ("secret",))  # call: prepared update
    cursor.close()


def postgresql(connection):
    """psycopg2, outside of its own transactions."""
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS rows (id INT, name TEXT)")  # call: postgresql table
    cursor.copy_expert("COPY rows FROM STDIN", io.StringIO("1\tsecret\n2\tsecret\n3\tb\n"))  # call: postgresql copy in
    copied = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM rows WHERE id < 3) TO STDOUT", copied)  # call: postgresql copy out
    assert copied.getvalue() == "1\tsecret\n2\tsecret\n"
    with fails():
        cursor.copy_expert("COPY rows FROM STDIN", io.StringIO("x\n"))  # call: postgresql copy error
    cursor.execute("LISTEN news")  # call: postgresql listen
    cursor.execute("NOTIFY news, 'secret'")  # call: postgresql notify
    connection.poll()
    assert [notice.payload for notice in connection.notifies] == ["secret"]
    connection.notifies.clear()
    connection.autocommit = False
    with connection.cursor(name="server") as server:
        server.itersize = 4
        server.execute("SELECT name FROM people WHERE id < 8")  # call: postgresql declare
        assert len(list(server)) == 7  # call: postgresql fetch
        server.close()  # call: postgresql close
    with fails():
        cursor.execute("INSERT INTO people VALUES (1, 'secret')")  # call: postgresql duplicate
    connection.rollback()  # call: postgresql rollback
    connection.autocommit = True
    cursor.execute("DELETE FROM rows; SELECT name FROM rows; SELECT 1")  # call: postgresql several


def psycopg(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS rows (id INT, name TEXT)")  # call: psycopg table
    with cursor.copy("COPY rows FROM STDIN") as copy:  # call: psycopg copy in
        for number in range(3):
            copy.write_row((number, "secret"))
    with cursor.copy("COPY (SELECT * FROM rows WHERE id < 2) TO STDOUT") as copy:  # call: psycopg copy out
        assert len(list(copy.rows())) == 2
    cursor.execute("LISTEN news")  # call: psycopg listen
    cursor.execute("NOTIFY news, 'secret'")  # call: psycopg notify
    assert [notice.payload for notice in connection.notifies(timeout=10, stop_after=1)] == ["secret"]
    with connection.pipeline():
        cursor.execute("UPDATE people SET name = 'secret' WHERE id = %s", (3,))  # call: psycopg pipeline
        cursor.execute(SELECT, (3,))  # call: psycopg pipeline 2
    with connection.transaction():  # call: psycopg begin
        with connection.cursor(name="server") as server:
            server.execute("SELECT name FROM people WHERE id < 8")  # call: psycopg declare
            assert len(server.fetchmany(4)) == 4  # call: psycopg fetch
            server.close()  # call: psycopg close
    with fails():
        cursor.execute("INSERT INTO people VALUES (%s, 'secret')", (1,))  # call: psycopg duplicate
    cursor.execute("DELETE FROM rows")  # call: psycopg delete


def held(connection):
    """A connection that is looked at, and another time has a transaction begun on it, long before it is used."""
    connection.ping()
    time.sleep(0.15)
    cursor = connection.cursor()
    cursor.execute(SELECT, (3,))  # call: held ping
    cursor.execute(SELECT, (3,))  # call: held again
    connection.begin()  # call: held begin
    time.sleep(0.15)
    cursor.execute(SELECT, (3,))  # call: held transaction
    connection.commit()  # call: held commit


def psycopg2_connect(tls):
    connection = importlib.import_module("psycopg2").connect(
        host=HOST, port=port("PG_PORT"), user="app", dbname="postgres", sslmode=tls
    )
    connection.autocommit = True
    return connection


def psycopg_connect(tls):
    module = importlib.import_module("psycopg")
    # `c`, `binary` or `python`, as the environment asks for by `PSYCOPG_IMPL`.
    assert os.environ.get("PSYCOPG_IMPL", module.pq.__impl__) == module.pq.__impl__
    return module.connect(
        f"host={HOST} port={port('PG_PORT')} user=app dbname=postgres sslmode={tls}",
        autocommit=True,
        prepare_threshold=None,
    )


PATHS = {
    "mysqlclient-whole": (mysqlclient_connect, mysql),
    "pymysql-whole": (lambda: pymysql_connect(ssl_disabled=True), mysql),
    "pymysql-whole-tls": (lambda: pymysql_connect(ssl={"check_hostname": False}), mysql),
    "connector-whole": (lambda: connector_connect(True, True), mysql),
    "connector-whole-tls": (lambda: connector_connect(True, False), mysql),
    "connector-c-whole": (lambda: connector_connect(False, True), mysql),
    "connector-c-whole-tls": (lambda: connector_connect(False, False), mysql),
    "connector-c-prepared": (lambda: connector_connect(False, True), prepared),
    "connector-c-prepared-tls": (lambda: connector_connect(False, False), prepared),
    "psycopg2-whole": (lambda: psycopg2_connect("disable"), postgresql),
    "psycopg2-whole-tls": (lambda: psycopg2_connect("require"), postgresql),
    "psycopg-whole": (lambda: psycopg_connect("disable"), psycopg),
    "psycopg-whole-tls": (lambda: psycopg_connect("require"), psycopg),
    "held": (mysqlclient_connect, held),
}
