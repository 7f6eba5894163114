-- A day's work on a database: bulk loads, joins, indexes, triggers, full-text search, JSON, windows, write-ahead logging.
PRAGMA journal_mode = WAL;
PRAGMA cache_size = 200;
CREATE TABLE ports (id INTEGER PRIMARY KEY, name TEXT UNIQUE, sea TEXT);
CREATE TABLE voyages (id INTEGER PRIMARY KEY, origin INTEGER REFERENCES ports, target INTEGER REFERENCES ports,
                      days INTEGER, cargo TEXT);
CREATE TABLE log (voyage INTEGER, what TEXT);
CREATE TRIGGER logged AFTER UPDATE ON voyages BEGIN INSERT INTO log VALUES (old.id, old.days || ' to ' || new.days); END;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
INSERT INTO ports SELECT i, printf('port %03d', i), CASE i % 3 WHEN 0 THEN 'Ionian' WHEN 1 THEN 'Aegean' ELSE 'Cretan' END FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO voyages SELECT i, 1 + i * 7919 % 200, 1 + i * 104729 % 200, 1 + i * 31 % 40,
                           json_object('amphorae', i % 97, 'marble', i % 13) FROM n;
COMMIT;
CREATE INDEX by_origin ON voyages (origin, days);
ANALYZE;
SELECT sea, count(*), sum(days), max(target) FROM voyages JOIN ports ON origin = ports.id GROUP BY sea ORDER BY sea;
SELECT name, days, rank() OVER (ORDER BY days DESC, name) AS place
  FROM (SELECT origin, sum(days) AS days FROM voyages GROUP BY origin) JOIN ports ON origin = ports.id LIMIT 5;
UPDATE voyages SET days = days + 1 WHERE id % 100 = 0;
SELECT count(*), max(what) FROM log;
SELECT sum(json_extract(cargo, '$.amphorae')) FROM voyages WHERE origin = 17;
CREATE VIRTUAL TABLE words USING fts5(text);
INSERT INTO words SELECT 'ship ' || name || ' sails the ' || sea FROM ports;
SELECT count(*) FROM words WHERE words MATCH 'aegean AND ship';
SAVEPOINT before;
DELETE FROM voyages WHERE days > 20;
SELECT count(*) FROM voyages;
ROLLBACK TO before;
RELEASE before;
SELECT count(*), total(days) FROM voyages;
PRAGMA wal_checkpoint(TRUNCATE);
PRAGMA journal_mode = DELETE;
VACUUM;
PRAGMA integrity_check;
PRAGMA page_count;
