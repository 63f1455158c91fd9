# sqlite3: transactions, two connections and their locks, WAL, backup, a bigger table.
import os
import sqlite3

db = sqlite3.connect("db", timeout=0.1)
db.execute("create table t(id integer primary key, name text, value real)")
with db:
    db.executemany("insert into t(name, value) values (?, ?)", [(f"n{n}", n / 7) for n in range(2000)])
print(db.execute("select count(*), round(sum(value), 3), max(name) from t").fetchone())
try:
    with db:
        db.execute("insert into t(id) values (1)")
except sqlite3.IntegrityError as error:
    print(error)
other = sqlite3.connect("db", timeout=0.1)
db.isolation_level = None
db.execute("begin immediate")
try:
    other.execute("insert into t(name) values ('x')")
except sqlite3.OperationalError as error:
    print(error)
db.execute("commit")
other.execute("insert into t(name) values ('x')")
other.commit()
print(db.execute("pragma journal_mode=wal").fetchone() if not other.in_transaction else None)
other.close()
with db:
    db.execute("update t set value = value * 2 where id % 2 = 0")
print(sorted(name for name in os.listdir(".") if name.startswith("db")))
print(db.execute("pragma integrity_check").fetchone())
pid = os.fork()
if pid == 0:
    child = sqlite3.connect("db", timeout=5)
    child.execute("insert into t(name) values ('from child')")
    child.commit()
    child.close()
    os._exit(0)
print(os.waitpid(pid, 0)[1])
print(db.execute("select count(*) from t where name = 'from child'").fetchone())
copy = sqlite3.connect("copy")
db.backup(copy)
print(copy.execute("select count(*) from t").fetchone())
copy.execute("create index i on t(name)")
print(copy.execute("select id from t where name = 'n1234'").fetchone())
copy.execute("vacuum")
copy.close()
db.close()
print(os.path.exists("db-wal"))
