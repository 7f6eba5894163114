"""TLS over the loopback network, a shared mapping, SQL and a pool, all from threads. Its argument is a certificate."""

import mmap
import multiprocessing.dummy
import os
import socket
import sqlite3
import ssl
import sys
import tempfile
import threading

from check import show

certificate = sys.argv[1]


def serve(listener, context):
    for _ in range(3):
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            while data := tls.recv(65536):
                tls.sendall(data.upper())


def ask(port, text):
    """Has the server say the text in capitals, a piece at a time: both have only so much room for what is on its way."""
    context = ssl.create_default_context(cafile=certificate)
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            answer = b""
            for start in range(0, len(text), 50000):
                piece = text[start : start + 50000]
                tls.sendall(piece)
                while len(answer) < start + len(piece):
                    answer += tls.recv(65536)
            return answer == text.upper(), tls.version()


server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(certificate)
with socket.create_server(("127.0.0.1", 0)) as listener:
    server = threading.Thread(target=serve, args=(listener, server_context))
    server.start()
    for size in (10, 5000, 500000):
        show("tls", size, *ask(listener.getsockname()[1], b"abcdefghij" * (size // 10)))
    server.join()
try:
    plain = ssl.create_default_context()
    one, two = socket.socketpair()
    two.sendall(b"not at all TLS\r\n")
    plain.wrap_socket(one, server_hostname="localhost")
except ssl.SSLError as error:
    show("no tls", error.reason)

with tempfile.TemporaryFile() as file:
    file.truncate(1 << 20)
    memory = mmap.mmap(file.fileno(), 1 << 20)

    def fill(part):
        start = part << 16
        memory[start : start + (1 << 16)] = bytes([part]) * (1 << 16)

    with multiprocessing.dummy.Pool(4) as pool:
        pool.map(fill, range(16))
    memory.flush()
    show("mapped", [os.pread(file.fileno(), 2, part << 16).hex() for part in range(16)])

with tempfile.TemporaryDirectory() as folder:
    database = os.path.join(folder, "cargo.db")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE cargo (ship INTEGER, weight REAL)")

    def load(ship):
        connection = sqlite3.connect(database, timeout=60)
        for weight in range(25):
            with connection:
                connection.execute("INSERT INTO cargo VALUES (?, ?)", (ship, weight / 4))
        connection.close()

    with multiprocessing.dummy.Pool(4) as pool:
        pool.map(load, range(8))
    with sqlite3.connect(database) as connection:
        show("loaded", connection.execute("SELECT count(*), count(DISTINCT ship), sum(weight) FROM cargo").fetchone())
        show("checked", connection.execute("PRAGMA integrity_check").fetchone())
    connection.close()
