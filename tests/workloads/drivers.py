"""A WSGI application that asks databases, caches and other servers through one driver a path, and does nothing else.

    PG_PORT=... MY_PORT=... REDIS_PORT=... MEMCACHED_PORT=... HTTP_PORT=... HTTP2_PORT=... HTTP2_TLS_PORT=... gunicorn drivers:application

Each path runs its calls one after the other, and each call stands on a line of its own with a mark (`# call: NAME`).
Connections are those of the worker, made when it comes up, but for the paths below `/fresh/`, which make their own.
With LATE=1 the worker imports and connects nothing until it is asked for `/open/NAME`.
Drivers that are not installed answer 501.
"""

import importlib
import os

import conversations
from servers_of_drivers import HOST, fails, http2_options, port


def psycopg2(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM people WHERE id < %s", (3,))  # call: psycopg2 select
    assert len(cursor.fetchall()) == 2
    cursor.execute("UPDATE people SET name = 'secret' WHERE id = 1")  # call: psycopg2 update
    with fails():
        cursor.execute("SELECT secret FROM nosuch")  # call: psycopg2 error


def psycopg2_connect(tls="disable"):
    connection = importlib.import_module("psycopg2").connect(
        host=HOST, port=port("PG_PORT"), user="app", dbname="postgres", sslmode=tls
    )
    connection.autocommit = True
    return connection


def psycopg(connection):
    cursor = connection.cursor()
    for number in range(7):
        cursor.execute("SELECT name FROM people WHERE id < %s", (number,))  # call: psycopg select
        assert len(cursor.fetchall()) == max(0, number - 1)
    with fails():
        cursor.execute("SELECT 1 / (id - %s) FROM people WHERE id = 1", (1,))  # call: psycopg error


def psycopg_connect(tls="disable"):
    return importlib.import_module("psycopg").connect(
        f"host={HOST} port={port('PG_PORT')} user=app dbname=postgres sslmode={tls}", autocommit=True
    )


def pg8000(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM people WHERE id < %s", (3,))  # call: pg8000 select
    assert len(cursor.fetchall()) == 2
    with fails():
        cursor.execute("SELECT secret FROM nosuch")  # call: pg8000 error


def pg8000_connect():
    connection = importlib.import_module("pg8000.dbapi").connect(
        host=HOST, port=port("PG_PORT"), user="app", database="postgres"
    )
    connection.autocommit = True
    return connection


def mysqlclient(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM people WHERE id < %s", (3,))  # call: mysqlclient select
    assert len(cursor.fetchall()) == 2
    cursor.execute("UPDATE people SET name = 'secret' WHERE id = 9")  # call: mysqlclient update
    with fails():
        cursor.execute("SELECT secret FROM nosuch")  # call: mysqlclient error


def mysqlclient_connect():
    return importlib.import_module("MySQLdb").connect(
        host=HOST, port=port("MY_PORT"), user="shop", database="shop", autocommit=True
    )


def pymysql(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM people WHERE id < %s", (3,))  # call: pymysql select
    assert len(cursor.fetchall()) == 2
    cursor.execute("INSERT INTO people VALUES (10, 'secret'), (11, 'secret')")  # call: pymysql insert
    cursor.execute("DELETE FROM people WHERE id >= 10")  # call: pymysql delete
    with fails():
        cursor.execute("SELECT secret FROM nosuch")  # call: pymysql error


def pymysql_connect():
    return importlib.import_module("pymysql").connect(
        host=HOST, port=port("MY_PORT"), user="shop", database="shop", autocommit=True, ssl_disabled=True
    )


def connector(connection):
    cursor = connection.cursor(prepared=True)
    for number in (1, 2):
        cursor.execute("SELECT name FROM people WHERE id < %s", (number,))  # call: connector select
        assert len(cursor.fetchall()) == number - 1
    cursor.close()
    cursor = connection.cursor()
    with fails():
        cursor.execute("SELECT secret FROM nosuch")  # call: connector error


def connector_connect():
    return importlib.import_module("mysql.connector").connect(
        host=HOST, port=port("MY_PORT"), user="shop", database="shop", autocommit=True, use_pure=True, ssl_disabled=True
    )


def redis(client):
    client.set("user:42:name", "secret")  # call: redis set
    assert client.get("user:42:name") == b"secret"  # call: redis get
    with fails():
        client.lpush("user:42:name", "secret")  # call: redis error
    pipeline = client.pipeline(transaction=False)
    for number in range(3):
        pipeline.get(f"user:{number}:name")
    pipeline.execute()  # call: redis pipeline


def redis_connect(name="REDIS_PORT", **more):
    client = importlib.import_module("redis").Redis(host=HOST, port=port(name), **more)
    client.ping()
    return client


def urllib(_):
    from urllib.error import HTTPError
    from urllib.request import urlopen

    # Each is a connection of its own; this host has to be looked up.
    urlopen(f"http://localhost:{port('HTTP_PORT')}/download/5000?secret=1").read()  # call: urllib get
    with fails():
        try:
            urlopen(f"http://{HOST}:{port('HTTP_PORT')}/status/503")  # call: urllib error
        except HTTPError as error:
            # Nobody has to read this body, and then nobody knows how long it was.
            error.read()
            raise


def requests(session):
    session.get(f"http://{HOST}:{port('HTTP_PORT')}/chunked/1?secret=1")  # call: requests get
    session.post(f"http://{HOST}:{port('HTTP_PORT')}/echo", data="secret")  # call: requests post


def requests_connect():
    return importlib.import_module("requests").Session()


def httpx(client):
    client.get(f"http://{HOST}:{port('HTTP_PORT')}/download/70000")  # call: httpx get


def httpx_connect(**more):
    return importlib.import_module("httpx").Client(trust_env=False, **more)


def urllib3(pool):
    pool.request("GET", f"http://{HOST}:{port('HTTP_PORT')}/download/5000?secret=1")  # call: urllib3 get
    pool.request("POST", f"http://{HOST}:{port('HTTP_PORT')}/echo", body=b"secret")  # call: urllib3 post


def urllib3_connect(**more):
    return importlib.import_module("urllib3").PoolManager(**more)


def encrypted(get):
    """HTTP/1.1 over TLS, by whichever client. Each call is on the client's own line."""
    get(f"https://localhost:{port('HTTP2_TLS_PORT')}/download/5000?secret=1")
    get(f"https://localhost:{port('HTTP2_TLS_PORT')}/status/503")


def encrypted_urllib():
    import ssl
    from urllib.error import HTTPError
    from urllib.request import urlopen

    context = ssl._create_unverified_context()

    def get(url):
        try:
            urlopen(url, context=context).read()  # call: urllib tls
        except HTTPError as error:
            error.read()

    return get


def encrypted_requests():
    session = requests_connect()
    # A variable of the environment counts for more than what a session says.
    return lambda url: session.get(url, verify=False)  # call: requests tls


def encrypted_urllib3():
    pool = urllib3_connect(cert_reqs="CERT_NONE")
    return lambda url: pool.request("GET", url)  # call: urllib3 tls


def encrypted_httpx():
    client = httpx_connect(verify=False)
    return lambda url: client.get(url)  # call: httpx tls


def http2(client):
    client.get("/download/70000?secret=1")  # call: http2 get
    client.post("/echo", content=b"secret")  # call: http2 post
    client.get("/status/503")  # call: http2 error
    with client.stream("GET", "/download/200000") as answer:  # call: http2 stream
        assert sum(len(piece) for piece in answer.iter_bytes()) == 200000


def http2_connect(tls=False):
    httpx = importlib.import_module("httpx")
    importlib.import_module("h2")
    client = httpx.Client(**http2_options(httpx, tls))
    client.get("/")
    return client


def sqlite3(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM people WHERE id < ?", (3,))  # call: sqlite3 select
    assert len(cursor.fetchall()) == 2
    cursor.execute("UPDATE people SET name = 'secret' WHERE id = 9")  # call: sqlite3 update
    with fails():
        cursor.execute("SELECT secret FROM nosuch")  # call: sqlite3 error


def sqlite3_connect(module="sqlite3"):
    connection = importlib.import_module(module).connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT INTO people VALUES (?, ?)", [(number, "a") for number in range(1, 10)])
    return connection


def django(person):
    assert len(person.objects.filter(id__lt=3)) == 2  # call: django select
    assert person.objects.filter(id=9).update(name="secret") == 1  # call: django update


def django_connect():
    """A model of Django on SQLite; without routes, which this application has none of."""
    from django.conf import settings
    from django.db import connection, models

    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    settings.configure(DATABASES={"default": sqlite}, USE_TZ=True)
    importlib.import_module("django").setup()

    class Person(models.Model):
        id = models.IntegerField(primary_key=True)
        name = models.TextField()

        class Meta:
            app_label = "people"
            db_table = "people"

    with connection.schema_editor() as editor:
        editor.create_model(Person)
    Person.objects.bulk_create([Person(id=number, name="a") for number in range(1, 10)])
    return Person


def mongodb(people):
    assert len(list(people.find({"_id": {"$lt": 3}}))) == 2  # call: mongodb find
    people.update_one({"_id": 9}, {"$set": {"name": "secret"}})  # call: mongodb update
    with fails():
        people.insert_one({"_id": 1, "name": "secret"})  # call: mongodb error


def mongodb_connect():
    people = importlib.import_module("pymongo").MongoClient(HOST, port("MONGODB_PORT")).shop.people
    people.insert_many([{"_id": number, "name": "a"} for number in range(1, 10)])
    return people


def sqlite3_counted(connection):
    """Answers with the statements that SQLite ran, which it tells itself (`sqlite3_trace_v2`), one a line."""
    ran = []
    connection.set_trace_callback(ran.append)
    cursor = connection.cursor()
    rows = [(f"name {number}",) for number in range(3)]
    cursor.executemany("INSERT INTO counted (name) VALUES (?)", rows)  # call: counted many
    connection.commit()  # call: counted commit
    cursor.execute("SELECT name FROM counted")  # call: counted part
    cursor.fetchone()
    with fails():
        cursor.execute("INSERT INTO counted (name) VALUES ('name 1')")  # call: counted constraint
    connection.rollback()  # call: counted rollback
    # The schema changes: what was prepared before is prepared anew when it is run.
    connection.executescript("CREATE TABLE more (a); DROP TABLE more")  # call: counted script
    cursor.execute("DELETE FROM counted")  # call: counted delete
    connection.commit()
    cursor.execute("VACUUM")  # call: counted vacuum
    connection.set_trace_callback(None)
    return "".join(f"{statement.strip()}\n" for statement in ran).encode()


def sqlite3_counted_connect():
    connection = importlib.import_module("sqlite3").connect(":memory:")
    connection.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    return connection


def sqlite3_made(connection):
    """Asks from functions that are made, live for a while and are given up, each where the one before was as a rule.
    Answers with how many addresses their code objects had."""
    addresses = set()
    for number in range(8):
        text = f"def asks_{number}(cursor):\n cursor.execute('SELECT 1 AS made_{number}')\n later(0.1)\n"
        names = {"later": importlib.import_module("time").sleep}
        exec(compile(text, "made", "exec"), names)
        addresses.add(id(names[f"asks_{number}"].__code__))
        names[f"asks_{number}"](connection.cursor())
        names.clear()
    return f"{len(addresses)}\n".encode()


def memcached(client):
    client.set("user:42:name", b"secret", noreply=False)  # call: memcached set
    assert client.get("user:42:name") == b"secret"  # call: memcached get


def memcached_connect(name="MEMCACHED_PORT", **more):
    return importlib.import_module("pymemcache").Client((HOST, port(name)), **more)


def memcached_tls_connect():
    import ssl

    return memcached_connect("MEMCACHED_TLS_PORT", tls_context=ssl._create_unverified_context())


def kafka(consumer):
    """What the application's own thread asks; what a producer sends, its own thread sends."""
    module = importlib.import_module("kafka")
    partition = module.TopicPartition("orders", 0)
    assert consumer.end_offsets([partition]) == {partition: 1}  # call: kafka offsets
    consumer.seek(partition, 0)
    found = []
    while not found:
        found = [one.value for many in consumer.poll(1000).values() for one in many]  # call: kafka poll
    assert found == [b"secret"]
    consumer.commit({partition: module.OffsetAndMetadata(1, "", -1)})  # call: kafka commit
    # The client below the producer, on the thread that calls it.
    builder = importlib.import_module("kafka.record").MemoryRecordsBuilder(2, 0, 16384)
    builder.append(None, None, b"secret")
    builder.close()
    request = importlib.import_module("kafka.protocol.produce").ProduceRequest[3](
        transactional_id=None, required_acks=1, timeout=60000, topics=[("orders", [(0, builder.buffer())])]
    )
    client = consumer._client
    answer = client.send(client.least_loaded_node(), request)
    client.poll(future=answer)  # call: kafka produce
    assert answer.succeeded(), answer.exception
    # Number, version, correlation, the client's name with its length; then the request.
    return f"{10 + len(client.config['client_id']) + len(request.encode())}\n".encode()


def kafka_connect():
    module = importlib.import_module("kafka")
    where = f"{HOST}:{port('KAFKA_PORT')}"
    admin = module.KafkaAdminClient(bootstrap_servers=where)
    admin.create_topics([importlib.import_module("kafka.admin").NewTopic("orders", 1, 1)])
    producer = module.KafkaProducer(bootstrap_servers=where)
    producer.send("orders", b"secret", partition=0).get(timeout=60)
    producer.close()
    consumer = module.KafkaConsumer(bootstrap_servers=where, group_id="shop", enable_auto_commit=False)
    partition = module.TopicPartition("orders", 0)
    consumer.assign([partition])
    consumer.commit({partition: module.OffsetAndMetadata(0, "", -1)})
    # Metadata and the group are known from now on.
    assert consumer.end_offsets([partition]) == {partition: 1}
    return consumer


PATHS = {
    "psycopg2": (psycopg2_connect, psycopg2),
    "psycopg": (psycopg_connect, psycopg),
    # Each brings a libpq and a libssl of its own.
    "psycopg2-tls": (lambda: psycopg2_connect("require"), psycopg2),
    "psycopg-tls": (lambda: psycopg_connect("require"), psycopg),
    "pg8000": (pg8000_connect, pg8000),
    "mysqlclient": (mysqlclient_connect, mysqlclient),
    "pymysql": (pymysql_connect, pymysql),
    "connector": (connector_connect, connector),
    "redis": (redis_connect, redis),
    "redis-tls": (lambda: redis_connect("REDIS_TLS_PORT", ssl=True, ssl_cert_reqs="none"), redis),
    "memcached": (memcached_connect, memcached),
    "memcached-tls": (memcached_tls_connect, memcached),
    "urllib": (lambda: None, urllib),
    "requests": (requests_connect, requests),
    "httpx": (httpx_connect, httpx),
    "urllib3": (urllib3_connect, urllib3),
    "urllib-tls": (encrypted_urllib, encrypted),
    "requests-tls": (encrypted_requests, encrypted),
    "urllib3-tls": (encrypted_urllib3, encrypted),
    "httpx-tls": (encrypted_httpx, encrypted),
    "http2": (http2_connect, http2),
    "http2-tls": (lambda: http2_connect(True), http2),
    "sqlite3": (sqlite3_connect, sqlite3),
    # With SQLite inside the module.
    "pysqlite3": (lambda: sqlite3_connect("pysqlite3"), sqlite3),
    "sqlite3-made": (sqlite3_connect, sqlite3_made),
    "django": (django_connect, django),
    "mongodb": (mongodb_connect, mongodb),
    "kafka": (kafka_connect, kafka),
    "sqlite3-counted": (sqlite3_counted_connect, sqlite3_counted),
} | conversations.PATHS
OPEN = {}
for name, (connect, _) in PATHS.items() if "LATE" not in os.environ else ():
    try:
        OPEN[name] = connect()
    except (ImportError, KeyError) as missing:
        print(f"without {name}: {missing!r}", flush=True)


def application(environ, start_response):
    path = environ["PATH_INFO"].strip("/")
    fresh, name = path.startswith("fresh/"), path.removeprefix("fresh/")
    if path.startswith("open/"):
        name = path.removeprefix("open/")
        OPEN[name] = PATHS[name][0]()
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    if name not in OPEN:
        start_response("501 Not Implemented", [("Content-Length", "0")])
        return [b""]
    connect, run = PATHS[name]
    body = run(connect() if fresh else OPEN[name]) or b"ok\n"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
