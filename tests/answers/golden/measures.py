"""Measures: every kind, over few, one and no values."""

from __future__ import annotations

from decimal import Decimal

from tests.answers.golden.case import at, case

CASES = (
    case(
        "the kinds of measures on five flights",
        """
        measures: "flights" measures: "departures" measures: "miles" measures: "kilometres" measures:
        "air_hours" measures: "dep_delay" measures: "arr_delay_variance" measures: "arr_delay_stddev" measures:
        "least_delay" measures: "worst_delay" measures: "exact_p95_delay" dimensions: "carrier" filter {
        condition { member: "carrier" operator: FILTER_OPERATOR_EQ values { string_value: "OO" } } }
        """,
        """
        SELECT carrier, count(*), count(dep_time), sum(distance), sum(distance * 1.609344), sum(air_time /
        60.0::float8), sum(dep_delay)::float8 / count(dep_delay), var_samp(arr_delay)::float8,
        stddev_samp(arr_delay)::float8, min(arr_delay), max(arr_delay), percentile_cont(0.95) WITHIN GROUP
        (ORDER BY arr_delay::float8) FROM joined WHERE carrier = 'OO' GROUP BY 1
        """,
        (
            "OO",
            5,
            4,
            2494,
            Decimal("4013.703936"),
            5.566666666666666,
            -4.0,
            138.25,
            11.757976016304847,
            -24,
            3,
            1.6499999999999968,
        ),
    ),
    case(
        "the variance of one value is null",
        """
        measures: "arr_delay" measures: "arr_delay_variance" measures: "arr_delay_stddev" dimensions: "dest"
        filter { condition { member: "dest" operator: FILTER_OPERATOR_IN values { string_value: "ANC" } values {
        string_value: "SBN" } values { string_value: "EYW" } } }
        """,
        """
        SELECT dest, sum(arr_delay)::float8 / count(arr_delay), var_samp(arr_delay)::float8,
        stddev_samp(arr_delay)::float8 FROM joined WHERE dest IN ('ANC', 'SBN', 'EYW') GROUP BY 1 ORDER BY 1
        """,
        ("ANC", 1.0, None, None),
        ("EYW", -9.5, 144.5, 12.020815280171307),
        ("SBN", -9.0, None, None),
    ),
    case(
        "groups whose values are all null",
        """
        measures: "flights" measures: "departures" measures: "miles" measures: "miles_flown" measures:
        "air_hours" measures: "speed" measures: "dep_delay" measures: "last_delay" measures: "cancellation_rate"
        dimensions: "cancelled" filter { condition { member: "cancelled" operator: FILTER_OPERATOR_EQ values {
        bool_value: true } } }
        """,
        """
        SELECT cancelled, count(*), count(dep_time), sum(distance), sum(distance) FILTER (WHERE air_time IS NOT
        NULL), sum(air_time / 60.0::float8), NULL, sum(dep_delay)::float8 / count(dep_delay), NULL, 1.0::float8
        FROM joined WHERE cancelled GROUP BY 1
        """,
        (True, 1256, 0, 894970, None, None, None, None, None, 1.0),
    ),
    case(
        "first and last by hour, then by number of the flight, without nulls",
        """
        measures: "first_tailnum" measures: "last_delay" measures: "first_departure" measures: "last_departure"
        dimensions: "origin"
        """,
        """
        SELECT origin, (array_agg(tailnum ORDER BY time_hour, id) FILTER (WHERE tailnum IS NOT NULL))[1],
        (array_agg(dep_delay ORDER BY time_hour DESC, id DESC) FILTER (WHERE dep_delay IS NOT NULL))[1],
        min(time_hour), max(time_hour) FROM joined GROUP BY 1 ORDER BY 1
        """,
        ("EWR", "N11107", -2, at("2013-01-01 11:00"), at("2014-01-01 01:00")),
        ("JFK", "N619AA", -4, at("2013-01-01 10:00"), at("2014-01-01 04:00")),
        ("LGA", "N668DN", 16, at("2013-01-01 11:00"), at("2014-01-01 00:00")),
    ),
    case(
        "few different values are counted exactly",
        """
        measures: "planes" measures: "destinations" measures: "seats_offered" measures: "temperature"
        dimensions: "carrier" filter { condition { member: "carrier" operator: FILTER_OPERATOR_IN values {
        string_value: "HA" } values { string_value: "F9" } values { string_value: "YV" } } }
        """,
        """
        SELECT carrier, count(DISTINCT tailnum), count(DISTINCT dest), sum(seats) FILTER (WHERE dep_time IS NOT
        NULL), avg(temp) FROM joined WHERE carrier IN ('HA', 'F9', 'YV') GROUP BY 1 ORDER BY 1
        """,
        ("F9", 22, 1, 17062, 55.724),
        ("HA", 14, 1, 21112, 59.26357142857144),
        ("YV", 38, 3, 5407, 62.929577464788736),
    ),
)
