"""sqlite_import.py ROWS: a table from a long list, indexed, changed and checked; its content as one sum."""
import hashlib
import os
import sqlite3
import sys

rows = int(sys.argv[1])
connection = sqlite3.connect("import.db")
connection.execute("pragma cache_size = -2000")
connection.execute("create table words (number integer primary key, word text, weight real)")
words = ((i, hashlib.md5(str(i).encode()).hexdigest() * (1 + i % 4), i * 0.25) for i in range(rows))
with connection:
    connection.executemany("insert into words values (?, ?, ?)", words)
with connection:
    connection.execute("create index by_word on words (word)")
with connection:
    connection.execute("delete from words where number % 3 = 0")
    connection.execute("update words set word = upper(word) where number % 5 = 0")
connection.execute("vacuum")
print(connection.execute("pragma integrity_check").fetchone()[0])
print(connection.execute("select count(*), sum(weight), min(word), max(word) from words").fetchone())
sum = hashlib.sha256()
for row in connection.execute("select * from words order by word, number"):
    sum.update(repr(row).encode())
print(sum.hexdigest())
connection.close()
print(os.path.getsize("import.db"), sorted(os.listdir(".")))
