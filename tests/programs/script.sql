-- A database in a file: tables, an index, transactions, a rollback, checks of its own.
PRAGMA page_size = 4096;
CREATE TABLE cargo (id INTEGER PRIMARY KEY, ship TEXT NOT NULL, weight REAL);
BEGIN;
WITH RECURSIVE count(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < 5000)
INSERT INTO cargo SELECT i, 'ship ' || (i % 17), i * 1.5 FROM count;
COMMIT;
CREATE INDEX by_ship ON cargo (ship, weight);
SELECT ship, count(*), sum(weight) FROM cargo GROUP BY ship ORDER BY ship LIMIT 5;
BEGIN;
DELETE FROM cargo WHERE id % 2 = 0;
SELECT count(*) FROM cargo;
ROLLBACK;
SELECT count(*) FROM cargo;
UPDATE cargo SET ship = upper(ship) WHERE id BETWEEN 10 AND 12;
SELECT id, ship FROM cargo WHERE ship LIKE 'SHIP %' AND ship = upper(ship);
VACUUM;
PRAGMA integrity_check;
