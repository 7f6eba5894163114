"""sqlite_peers.py MODE ME TRANSACTIONS: one of several programs, in machines and on the host, on one database.

Each transaction moves an amount between two accounts and notes it in a log of everybody: the sum of all accounts
never changes, and every note must be there at the end. A reader now and then checks that it sees a whole state."""
import sqlite3
import sys

mode, me, transactions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ACCOUNTS = 10


def connect():
    connection = sqlite3.connect("bank.db", timeout=60, isolation_level=None)
    connection.execute("pragma synchronous=off")
    return connection


if mode in ("wal", "delete"):
    connection = connect()
    got = connection.execute(f"pragma journal_mode={mode}").fetchone()[0]
    connection.execute("create table accounts (id integer primary key, amount integer)")
    connection.execute("create table log (who integer, number integer, primary key (who, number))")
    connection.executemany("insert into accounts values (?, 1000)", [(i,) for i in range(ACCOUNTS)])
    print(got)
elif mode == "verify":
    connection = connect()
    print(connection.execute("pragma integrity_check").fetchone()[0])
    print(connection.execute("select sum(amount) from accounts").fetchone()[0])
    print(connection.execute("select who, count(*), min(number), max(number) from log group by who").fetchall())
else:
    connection = connect()
    torn = 0
    for number in range(transactions):
        start, end = (number * 7 + me) % ACCOUNTS, (number * 3 + me * 5 + 1) % ACCOUNTS
        connection.execute("begin immediate")
        connection.execute("update accounts set amount = amount - ? where id = ?", (number, start))
        connection.execute("insert into log values (?, ?)", (me, number))
        connection.execute("update accounts set amount = amount + ? where id = ?", (number, end))
        connection.execute("commit")
        if number % 10 == 0:
            torn += connection.execute("select sum(amount) from accounts").fetchone()[0] != 1000 * ACCOUNTS
            connection.close()
            connection = connect()
    print("torn states:", torn)
