# The sqlite3 shell: transactions, indexes, journal modes.
command -v sqlite3 > /dev/null || { echo none; exit 0; }
sqlite3 db 'create table t(a integer primary key, b text); insert into t(b) values (1),(2),(3);'
sqlite3 db 'select count(*), sum(b) from t'
sqlite3 db "pragma journal_mode=wal"
sqlite3 db "begin; insert into t(b) select b from t; insert into t(b) select b from t; rollback; select count(*) from t"
sqlite3 db "with recursive c(n) as (select 1 union all select n+1 from c where n<1000) insert into t(b) select n from c; select count(*), max(a) from t"
sqlite3 db "create index i on t(b); select count(*) from t where b = '7'"
sqlite3 db "pragma integrity_check"
sqlite3 db .dump | sha1sum
sqlite3 db 'vacuum'
(sqlite3 db "begin immediate; select 'holds';" ; true)
sqlite3 db "select * from missing" 2> /dev/null
echo "status $?"
