"""Calculations: comparisons, shares, rolling windows, top N."""

from __future__ import annotations

from tests.answers.golden.case import at, case

CASES = (
    case(
        "the week before, group by group",
        """
        measures: "flights" measures: "dep_delay" dimensions: "dest" time { zone: "America/New_York" dates {
        start_date { year: 2013 month: 8 day: 5 } end_date { year: 2013 month: 8 day: 12 } } } filter {
        condition { member: "dest" operator: FILTER_OPERATOR_IN values { string_value: "GRR" } values {
        string_value: "MVY" } values { string_value: "OKC" } values { string_value: "SAV" } values {
        string_value: "ALB" } } } calculations { compare_to { count: 1 unit: TIME_GRAIN_WEEK measures: "flights"
        } }
        """,
        """
        SELECT dest, count(*) FILTER (WHERE date >= '2013-08-05'), avg(dep_delay) FILTER (WHERE date >=
        '2013-08-05')::float8, count(*) FILTER (WHERE date < '2013-08-05'), count(*) FILTER (WHERE date >=
        '2013-08-05') - count(*) FILTER (WHERE date < '2013-08-05'), (count(*) FILTER (WHERE date >=
        '2013-08-05') - count(*) FILTER (WHERE date < '2013-08-05'))::float8 / nullif(count(*) FILTER (WHERE
        date < '2013-08-05'), 0) FROM joined WHERE dest IN ('GRR', 'MVY', 'OKC', 'SAV', 'ALB') AND date >=
        '2013-07-29' AND date < '2013-08-12' GROUP BY 1 HAVING count(*) FILTER (WHERE date >= '2013-08-05') > 0
        ORDER BY 1
        """,
        ("ALB", 1, -4.0, 1, 0, 0.0),
        ("GRR", 2, 16.0, 1, 1, 1.0),
        ("MVY", 1, -3.0, 2, -1, -0.5),
        ("OKC", 1, 66.0, 0, 1, None),
    ),
    case(
        "days of a longer month share the last day of the shorter",
        """
        measures: "flights"  time { grain: TIME_GRAIN_DAY zone: "America/New_York" dates { start_date { year:
        2013 month: 3 day: 27 } end_date { year: 2013 month: 4 day: 1 } } } calculations { compare_to { count: 1
        unit: TIME_GRAIN_MONTH } }
        """,
        """
        SELECT date_trunc('day', m.time_hour, 'America/New_York'), count(*), p.n, count(*) - p.n, (count(*) -
        p.n) / p.n::float8 FROM joined m JOIN (SELECT date, count(*) AS n FROM joined WHERE month = 2 GROUP BY
        1) AS p ON p.date = (m.date - interval '1 month')::date WHERE m.date >= '2013-03-27' AND m.date <
        '2013-04-01' GROUP BY 1, p.n ORDER BY 1
        """,
        (at("2013-03-27 04:00"), 154, 130, 24, 0.18461538461538463),
        (at("2013-03-28 04:00"), 163, 138, 25, 0.18115942028985507),
        (at("2013-03-29 04:00"), 154, 138, 16, 0.11594202898550725),
        (at("2013-03-30 04:00"), 122, 138, -16, -0.11594202898550725),
        (at("2013-03-31 04:00"), 134, 138, -4, -0.028985507246376812),
    ),
    case(
        "a year before there were no flights",
        """
        measures: "flights" measures: "miles" time { grain: TIME_GRAIN_QUARTER zone: "America/New_York" dates {
        start_date { year: 2013 month: 1 day: 1 } end_date { year: 2013 month: 7 day: 1 } } } calculations {
        compare_to { count: 1 unit: TIME_GRAIN_YEAR } }
        """,
        """
        SELECT date_trunc('quarter', time_hour, 'America/New_York'), count(*), sum(distance), 0, count(*), NULL,
        NULL, NULL, NULL FROM joined WHERE month <= 6 GROUP BY 1 ORDER BY 1
        """,
        (at("2013-01-01 05:00"), 11995, 12155763, 0, 11995, None, None, None, None),
        (at("2013-04-01 04:00"), 12760, 13308217, 0, 12760, None, None, None, None),
    ),
    case(
        "hours are compared with the same hours on the clock",
        """
        measures: "flights" time { grain: TIME_GRAIN_HOUR zone: "America/New_York" absolute { start_time {
        seconds: 1362918000 } end_time { seconds: 1362925200 } } } calculations { compare_to { count: 1 unit:
        TIME_GRAIN_DAY } }
        """,
        """
        SELECT m.time_hour, count(*), p.n, count(*) - p.n, (count(*) - p.n) / p.n::float8 FROM joined m JOIN
        (SELECT time_hour, count(*) AS n FROM joined WHERE date = '2013-03-09' GROUP BY 1) AS p ON p.time_hour =
        m.time_hour - interval '23 hours' WHERE m.time_hour >= '2013-03-10 12:20Z' AND m.time_hour < '2013-03-10
        14:20Z' GROUP BY 1, p.n ORDER BY 1
        """,
        (at("2013-03-10 13:00"), 9, 9, 0, 0.0),
        (at("2013-03-10 14:00"), 4, 7, -3, -0.42857142857142855),
    ),
    case(
        "shares are of the total before having and limit",
        """
        measures: "flights" measures: "miles" dimensions: "origin" dimensions: "cancelled" having { condition {
        member: "flights" operator: FILTER_OPERATOR_LT values { int64_value: 17000 } } } order { member:
        "flights__share" direction: SORT_DIRECTION_DESC } limit: 3 calculations { shares { measure: "flights"
        within: "origin" } shares { measure: "miles" } }
        """,
        """
        SELECT origin, cancelled, n, m, fs, ms FROM (SELECT origin, cancelled, count(*) AS n, sum(distance) AS
        m, count(*) / sum(count(*)) OVER (PARTITION BY origin)::float8 AS fs, sum(distance)::float8 /
        (sum(sum(distance)) OVER ())::float8 AS ms FROM joined GROUP BY 1, 2) AS g WHERE n < 17000 ORDER BY fs
        DESC LIMIT 3
        """,
        ("JFK", False, 16288, 20844590, 0.9820922520349714, 0.3988934789172947),
        ("LGA", False, 15085, 11901926, 0.9697222936487528, 0.2277617678235073),
        ("LGA", True, 471, 302604, 0.030277706351247106, 0.005790795707389258),
    ),
    case(
        "rolling windows begin before the range and cross gaps",
        """
        measures: "flights" measures: "dep_delay" time { grain: TIME_GRAIN_DAY zone: "America/New_York" dates {
        start_date { year: 2013 month: 3 day: 13 } end_date { year: 2013 month: 3 day: 19 } } gap_fill: true }
        filter { condition { member: "dest" operator: FILTER_OPERATOR_EQ values { string_value: "CAK" } } }
        calculations { rolling_windows { measure: "flights" buckets: 3 } rolling_windows { measure: "dep_delay"
        buckets: 7 } }
        """,
        """
        SELECT d::timestamp AT TIME ZONE 'America/New_York', (SELECT count(*) FROM joined WHERE dest = 'CAK' AND
        date = d), (SELECT sum(dep_delay)::float8 / count(dep_delay) FROM joined WHERE dest = 'CAK' AND date =
        d), (SELECT count(*) FROM joined WHERE dest = 'CAK' AND date BETWEEN d - 2 AND d), (SELECT
        sum(dep_delay)::float8 / count(dep_delay) FROM joined WHERE dest = 'CAK' AND date BETWEEN d - 6 AND d)
        FROM (SELECT date '2013-03-13' + i AS d FROM generate_series(0, 5) AS i) AS days ORDER BY 1
        """,
        (at("2013-03-13 04:00"), 0, None, 1, 54.0),
        (at("2013-03-14 04:00"), 1, 41.0, 2, 47.5),
        (at("2013-03-15 04:00"), 1, 4.0, 2, 33.0),
        (at("2013-03-16 04:00"), 0, None, 2, 33.0),
        (at("2013-03-17 04:00"), 0, None, 1, 33.0),
        (at("2013-03-18 04:00"), 2, 2.0, 2, 20.6),
    ),
    case(
        "the top values, the others dropped",
        """
        measures: "flights" dimensions: "manufacturer" calculations { top_n { count: 3 dimension: "manufacturer"
        by: "flights" } }
        """,
        """
        SELECT manufacturer, count(*) FROM joined WHERE manufacturer IS NULL OR manufacturer IN ('BOEING',
        'EMBRAER') GROUP BY 1 ORDER BY 1
        """,
        ("BOEING", 12362),
        ("EMBRAER", 9826),
        (None, 7801),
    ),
    case(
        "the others in one row, beside the unknown",
        """
        measures: "flights" measures: "dep_delay" dimensions: "manufacturer" order { member: "flights"
        direction: SORT_DIRECTION_DESC } calculations { top_n { count: 3 dimension: "manufacturer" by: "flights"
        other: true } }
        """,
        """
        SELECT CASE WHEN o THEN NULL ELSE manufacturer END, count(*), sum(dep_delay)::float8 / count(dep_delay),
        o FROM (SELECT *, coalesce(manufacturer NOT IN ('BOEING', 'EMBRAER'), false) AS o FROM joined) AS x
        GROUP BY 1, 4 ORDER BY 2 DESC
        """,
        (None, 20011, 12.533019822006473, True),
        ("BOEING", 12362, 11.515633882888004, False),
        ("EMBRAER", 9826, 16.20162139397768, False),
        (None, 7801, 9.15215872572307, False),
    ),
    case(
        "the top is taken over the range, not over each bucket",
        """
        measures: "flights" dimensions: "carrier" time { grain: TIME_GRAIN_QUARTER zone: "America/New_York"
        dates { start_date { year: 2013 month: 1 day: 1 } end_date { year: 2014 month: 1 day: 1 } } }
        calculations { top_n { count: 1 dimension: "carrier" by: "flights" ascending: true } }
        """,
        """
        SELECT date_trunc('quarter', time_hour, 'America/New_York'), carrier, count(*) FROM joined WHERE carrier
        = (SELECT carrier FROM joined GROUP BY 1 ORDER BY count(*), 1 LIMIT 1) GROUP BY 1, 2 ORDER BY 1
        """,
        (at("2013-07-01 04:00"), "OO", 3),
        (at("2013-10-01 04:00"), "OO", 2),
    ),
    case(
        "ties of the top are broken by value",
        """
        measures: "flights" dimensions: "dest" filter { condition { member: "dest" operator: FILTER_OPERATOR_IN
        values { string_value: "SBN" } values { string_value: "ANC" } values { string_value: "EYW" } values {
        string_value: "MTJ" } } } calculations { top_n { count: 3 dimension: "dest" by: "flights" ascending:
        true } }
        """,
        "SELECT dest, count(*) FROM joined WHERE dest IN ('SBN', 'ANC', 'EYW') GROUP BY 1 ORDER BY 1",
        ("ANC", 1),
        ("EYW", 2),
        ("SBN", 1),
    ),
)
