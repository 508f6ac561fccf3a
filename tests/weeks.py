"""Some weeks of a site's health, as SQL."""

from __future__ import annotations

# What a site has after some weeks: a bad hour, a restart in which nobody looked, busy days.
HISTORY = """
INSERT INTO healthcheck_sample (at, status, milliseconds, codes)
SELECT minute, CASE WHEN ago BETWEEN 30000 AND 30050 OR ago BETWEEN 300 AND 304 THEN 'fail'
        WHEN ago BETWEEN 9000 AND 9300 OR ago < 20 THEN 'warn' ELSE 'pass' END,
    CASE WHEN ago BETWEEN 30000 AND 30050 OR ago BETWEEN 300 AND 304 THEN NULL
        ELSE 0.6 + 0.4 * sin(ago / 229.0) + random() * 0.9 + CASE WHEN random() < 0.04 THEN 4 ELSE 0 END END, '{}'
FROM (SELECT ago, date_trunc('minute', now()) - ago * interval '1 minute' AS minute
    FROM generate_series(1, 44 * 1440) AS ago WHERE ago NOT BETWEEN 700 AND 780) AS minutes;
INSERT INTO healthcheck_connectionsample (at, active, idle, idle_in_transaction, waiting, most)
SELECT date_trunc('minute', now()) - ago * interval '1 minute', 2 + 2 * sin(ago / 200.0) + random() * 3,
    12 + random() * 4, random(), CASE WHEN random() < 0.02 THEN 2 ELSE 0 END, 97
FROM generate_series(1, 30 * 1440) AS ago WHERE ago NOT BETWEEN 700 AND 780
"""
