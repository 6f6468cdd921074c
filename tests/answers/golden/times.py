"""Times: buckets in odd zones and at changes of the offset, ranges, gaps."""

from __future__ import annotations

from datetime import date

from tests.answers.golden.case import at, case

CASES = (
    case(
        "days around the spring change in New York",
        """
        measures: "flights" time { grain: TIME_GRAIN_DAY zone: "America/New_York" dates { start_date { year:
        2013 month: 3 day: 9 } end_date { year: 2013 month: 3 day: 12 } } }
        """,
        """
        SELECT date_trunc('day', time_hour, 'America/New_York'), count(*) FROM joined WHERE date >= '2013-03-09'
        AND date < '2013-03-12' GROUP BY 1 ORDER BY 1
        """,
        (at("2013-03-09 05:00"), 132),
        (at("2013-03-10 05:00"), 125),
        (at("2013-03-11 04:00"), 179),
    ),
    case(
        "days around the autumn change in New York",
        """
        measures: "flights" time { grain: TIME_GRAIN_DAY zone: "America/New_York" dates { start_date { year:
        2013 month: 11 day: 2 } end_date { year: 2013 month: 11 day: 5 } } }
        """,
        """
        SELECT date_trunc('day', time_hour, 'America/New_York'), count(*) FROM joined WHERE date >= '2013-11-02'
        AND date < '2013-11-05' GROUP BY 1 ORDER BY 1
        """,
        (at("2013-11-02 04:00"), 98),
        (at("2013-11-03 04:00"), 136),
        (at("2013-11-04 05:00"), 154),
    ),
    case(
        "a repeated hour is two buckets",
        """
        measures: "flights" time { grain: TIME_GRAIN_HOUR zone: "America/New_York" absolute { start_time {
        seconds: 1383451200 } end_time { seconds: 1383480000 } } gap_fill: true }
        """,
        """
        SELECT b, (SELECT count(*) FROM joined WHERE time_hour >= b AND time_hour < b + interval '1 hour') FROM
        generate_series(timestamptz '2013-11-03 04:00Z', timestamptz '2013-11-03 11:00Z', interval '1 hour') AS
        b
        """,
        (at("2013-11-03 04:00"), 0),
        (at("2013-11-03 05:00"), 0),
        (at("2013-11-03 06:00"), 0),
        (at("2013-11-03 07:00"), 0),
        (at("2013-11-03 08:00"), 0),
        (at("2013-11-03 09:00"), 0),
        (at("2013-11-03 10:00"), 0),
        (at("2013-11-03 11:00"), 8),
    ),
    case(
        "half an hour is turned back on Lord Howe",
        """
        measures: "flights" time { grain: TIME_GRAIN_HOUR zone: "Australia/Lord_Howe" absolute { start_time {
        seconds: 1365253200 } end_time { seconds: 1365266700 } } gap_fill: true }
        """,
        """
        SELECT b, (SELECT count(*) FROM joined WHERE time_hour >= b AND time_hour < e AND time_hour <
        '2013-04-06 16:45Z') FROM (VALUES (timestamptz '2013-04-06 13:00Z', timestamptz '2013-04-06 14:00Z'),
        ('2013-04-06 14:00Z', '2013-04-06 15:00Z'), ('2013-04-06 15:00Z', '2013-04-06 15:30Z'), ('2013-04-06
        15:30Z', '2013-04-06 16:30Z'), ('2013-04-06 16:30Z', '2013-04-06 17:30Z')) AS v (b, e)
        """,
        (at("2013-04-06 13:00"), 7),
        (at("2013-04-06 14:00"), 6),
        (at("2013-04-06 15:00"), 6),
        (at("2013-04-06 15:30"), 6),
        (at("2013-04-06 16:30"), 0),
    ),
    case(
        "days in Kathmandu begin at a quarter past",
        """
        measures: "flights" time { grain: TIME_GRAIN_DAY zone: "Asia/Kathmandu" dates { start_date { year: 2013
        month: 7 day: 1 } end_date { year: 2013 month: 7 day: 4 } } }
        """,
        """
        SELECT date_trunc('day', time_hour, 'Asia/Kathmandu'), count(*) FROM joined WHERE time_hour >=
        '2013-06-30 18:15Z' AND time_hour < '2013-07-03 18:15Z' GROUP BY 1 ORDER BY 1
        """,
        (at("2013-06-30 18:15"), 163),
        (at("2013-07-01 18:15"), 141),
        (at("2013-07-02 18:15"), 138),
    ),
    case(
        "a day whose midnight is skipped begins at one",
        """
        measures: "flights" time { grain: TIME_GRAIN_DAY zone: "America/Sao_Paulo" dates { start_date { year:
        2013 month: 10 day: 19 } end_date { year: 2013 month: 10 day: 22 } } }
        """,
        """
        SELECT b, (SELECT count(*) FROM joined WHERE time_hour >= b AND time_hour < e) FROM (VALUES (timestamptz
        '2013-10-19 03:00Z', timestamptz '2013-10-20 03:00Z'), ('2013-10-20 03:00Z', '2013-10-21 02:00Z'),
        ('2013-10-21 02:00Z', '2013-10-22 02:00Z')) AS v (b, e)
        """,
        (at("2013-10-19 03:00"), 83),
        (at("2013-10-20 03:00"), 120),
        (at("2013-10-21 02:00"), 149),
    ),
    case(
        "weeks begin on Monday, the first and last are cut by the range",
        """
        measures: "flights" time { grain: TIME_GRAIN_WEEK zone: "UTC" dates { start_date { year: 2013 month: 5
        day: 1 } end_date { year: 2013 month: 5 day: 15 } } }
        """,
        """
        SELECT date_trunc('week', time_hour, 'UTC'), count(*) FROM joined WHERE time_hour >= '2013-05-01 00:00Z'
        AND time_hour < '2013-05-15 00:00Z' GROUP BY 1 ORDER BY 1
        """,
        (at("2013-04-29 00:00"), 673),
        (at("2013-05-06 00:00"), 996),
        (at("2013-05-13 00:00"), 282),
    ),
    case(
        "quarters in Chatham",
        """
        measures: "flights" time { grain: TIME_GRAIN_QUARTER zone: "Pacific/Chatham" dates { start_date { year:
        2013 month: 1 day: 1 } end_date { year: 2014 month: 2 day: 1 } } }
        """,
        """
        SELECT date_trunc('quarter', time_hour, 'Pacific/Chatham'), count(*) FROM joined WHERE time_hour >=
        '2012-12-31 10:15Z' GROUP BY 1 ORDER BY 1
        """,
        (at("2012-12-31 10:15"), 11872),
        (at("2013-03-31 10:15"), 12756),
        (at("2013-06-30 11:15"), 13025),
        (at("2013-09-30 10:15"), 12235),
        (at("2013-12-31 10:15"), 112),
    ),
    case(
        "years in Saint John's",
        """
        measures: "flights" time { grain: TIME_GRAIN_YEAR zone: "America/St_Johns" dates { start_date { year:
        2012 month: 1 day: 1 } end_date { year: 2015 month: 1 day: 1 } } }
        """,
        """
        SELECT date_trunc('year', time_hour, 'America/St_Johns'), count(*) FROM joined GROUP BY 1 ORDER BY 1
        """,
        (at("2013-01-01 03:30"), 49999),
        (at("2014-01-01 03:30"), 1),
    ),
    case(
        "a range holds its first instant and not its last",
        """
        measures: "flights" time { absolute { start_time { seconds: 1357034400 } end_time { seconds: 1357038000
        } } }
        """,
        """
        SELECT count(*) FROM joined WHERE time_hour >= '2013-01-01 10:00Z' AND time_hour < '2013-01-01 11:00Z'
        """,
        (1,),
    ),
    case(
        "a date dimension has months without a zone",
        """
        measures: "flights" time { dimension: "flight_date" grain: TIME_GRAIN_MONTH zone: "Asia/Kathmandu" dates
        { start_date { year: 2013 month: 1 day: 1 } end_date { year: 2013 month: 3 day: 1 } } }
        """,
        """
        SELECT date_trunc('month', date::timestamp)::date, count(*) FROM joined WHERE date < '2013-03-01' GROUP
        BY 1 ORDER BY 1
        """,
        (date(2013, 1, 1), 4027),
        (date(2013, 2, 1), 3569),
    ),
    case(
        "gaps are filled for the groups of the result",
        """
        measures: "flights" measures: "dep_delay" dimensions: "dest" time { grain: TIME_GRAIN_MONTH zone:
        "America/New_York" dates { start_date { year: 2013 month: 1 day: 1 } end_date { year: 2013 month: 4 day:
        1 } } gap_fill: true } filter { condition { member: "dest" operator: FILTER_OPERATOR_IN values {
        string_value: "EYW" } values { string_value: "MTJ" } values { string_value: "ANC" } } }
        """,
        """
        SELECT b, d, count(id), sum(dep_delay)::float8 / count(dep_delay) FROM (VALUES (timestamptz '2013-01-01
        05:00Z', 1), ('2013-02-01 05:00Z', 2), ('2013-03-01 05:00Z', 3)) AS v (b, m) CROSS JOIN (SELECT DISTINCT
        dest AS d FROM joined WHERE dest IN ('EYW', 'MTJ', 'ANC') AND month <= 3) AS x LEFT JOIN joined ON month
        = m AND dest = d GROUP BY 1, 2 ORDER BY 1, 2
        """,
        (at("2013-01-01 05:00"), "EYW", 0, None),
        (at("2013-01-01 05:00"), "MTJ", 1, 1.0),
        (at("2013-02-01 05:00"), "EYW", 0, None),
        (at("2013-02-01 05:00"), "MTJ", 0, None),
        (at("2013-03-01 05:00"), "EYW", 1, 12.0),
        (at("2013-03-01 05:00"), "MTJ", 1, 3.0),
    ),
    case(
        "gaps of nothing are filled when there are no dimensions",
        """
        measures: "flights" measures: "miles" measures: "destinations" time { grain: TIME_GRAIN_DAY dates {
        start_date { year: 2020 month: 2 day: 28 } end_date { year: 2020 month: 3 day: 1 } } gap_fill: true }
        """,
        """
        SELECT b, 0, NULL, 0 FROM generate_series(timestamptz '2020-02-28Z', timestamptz '2020-02-29Z', interval
        '1 day') AS b
        """,
        (at("2020-02-28 00:00"), 0, None, 0),
        (at("2020-02-29 00:00"), 0, None, 0),
    ),
    case(
        "a grain alone lists the buckets that have rows",
        """
        time { grain: TIME_GRAIN_YEAR dates { start_date { year: 2012 month: 1 day: 1 } end_date { year: 2016
        month: 1 day: 1 } } }
        """,
        "SELECT DISTINCT date_trunc('year', time_hour, 'UTC') FROM joined ORDER BY 1",
        (at("2013-01-01 00:00"),),
        (at("2014-01-01 00:00"),),
    ),
)
