"""Filters: three-valued logic, literal text, exact decimals, half-open ranges."""

from __future__ import annotations

from decimal import Decimal

from tests.answers.golden.case import case

CASES = (
    case(
        "not equal leaves out the unknown",
        """
        measures: "flights" filter { condition { member: "manufacturer" operator: FILTER_OPERATOR_NE values {
        string_value: "BOEING" } } }
        """,
        "SELECT count(*) FROM joined WHERE manufacturer <> 'BOEING'",
        (29837,),
    ),
    case(
        "negated equality leaves out the unknown",
        """
        measures: "flights" filter { not_filter { condition { member: "manufacturer" operator:
        FILTER_OPERATOR_EQ values { string_value: "BOEING" } } } }
        """,
        "SELECT count(*) FROM joined WHERE NOT manufacturer = 'BOEING'",
        (29837,),
    ),
    case(
        "not in leaves out the unknown",
        """
        measures: "flights" filter { condition { member: "manufacturer" operator: FILTER_OPERATOR_NOT_IN values
        { string_value: "BOEING" } values { string_value: "AIRBUS" } } }
        """,
        "SELECT count(*) FROM joined WHERE manufacturer NOT IN ('BOEING', 'AIRBUS')",
        (22792,),
    ),
    case(
        "the unknown is asked for by name",
        """
        measures: "flights" filter { any_of { filters { condition { member: "manufacturer" operator:
        FILTER_OPERATOR_NE values { string_value: "BOEING" } } } filters { condition { member: "manufacturer"
        operator: FILTER_OPERATOR_IS_NULL } } } }
        """,
        "SELECT count(*) FROM joined WHERE manufacturer <> 'BOEING' OR manufacturer IS NULL",
        (37638,),
    ),
    case(
        "unknown or false is not true when negated",
        """
        measures: "flights" filter { not_filter { any_of { filters { condition { member: "manufacturer"
        operator: FILTER_OPERATOR_EQ values { string_value: "BOEING" } } } filters { condition { member:
        "carrier" operator: FILTER_OPERATOR_EQ values { string_value: "UA" } } } } } }
        """,
        "SELECT count(*) FROM joined WHERE NOT (manufacturer = 'BOEING' OR carrier = 'UA')",
        (27462,),
    ),
    case(
        "unknown and false is false",
        """
        measures: "flights" filter { not_filter { all_of { filters { condition { member: "manufacturer"
        operator: FILTER_OPERATOR_EQ values { string_value: "BOEING" } } } filters { condition { member:
        "carrier" operator: FILTER_OPERATOR_EQ values { string_value: "UA" } } } } } }
        """,
        "SELECT count(*) FROM joined WHERE NOT (manufacturer = 'BOEING' AND carrier = 'UA')",
        (43626,),
    ),
    case(
        "an empty all_of keeps every row",
        'measures: "flights" filter { all_of { } }',
        "SELECT count(*) FROM joined",
        (50000,),
    ),
    case(
        "an empty any_of keeps no row and leaves one group",
        """
        measures: "flights" measures: "miles" measures: "dep_delay" measures: "worst_delay" measures:
        "destinations" measures: "planes" measures: "first_tailnum" measures: "cancellation_rate" measures:
        "exact_p95_delay" filter { any_of { } }
        """,
        """
        SELECT count(*), sum(distance), avg(dep_delay), max(arr_delay), count(DISTINCT dest), count(DISTINCT
        tailnum), min(tailnum), NULL, NULL FROM joined WHERE false
        """,
        (0, None, None, None, 0, 0, None, None, None),
    ),
    case(
        "an empty filter with groups gives no rows",
        'measures: "flights" dimensions: "carrier" filter { any_of { } }',
        "SELECT carrier, count(*) FROM joined WHERE false GROUP BY 1",
    ),
    case(
        "wildcards are plain characters",
        """
        measures: "flights" filter { any_of { filters { condition { member: "dest_name" operator:
        FILTER_OPERATOR_CONTAINS values { string_value: "%" } } } filters { condition { member: "dest_name"
        operator: FILTER_OPERATOR_STARTS_WITH values { string_value: "_" } } } filters { condition { member:
        "dest_name" operator: FILTER_OPERATOR_ENDS_WITH values { string_value: "%ntl" } } } } }
        """,
        """
        SELECT count(*) FROM joined WHERE strpos(dest_name, '%') > 0 OR strpos(dest_name, '_') = 1 OR
        right(dest_name, 4) = '%ntl'
        """,
        (0,),
    ),
    case(
        "text is compared by case",
        """
        measures: "flights" dimensions: "dest_name" filter { all_of { filters { condition { member: "dest_name"
        operator: FILTER_OPERATOR_STARTS_WITH values { string_value: "San" } } } filters { condition { member:
        "dest_name" operator: FILTER_OPERATOR_ENDS_WITH values { string_value: "Intl" } } } filters { condition
        { member: "dest_name" operator: FILTER_OPERATOR_CONTAINS values { string_value: "o" } } } } }
        """,
        """
        SELECT dest_name, count(*) FROM joined WHERE dest_name ~ '^San.*Intl$' AND dest_name ~ 'o' GROUP BY 1
        ORDER BY dest_name COLLATE "C"
        """,
        ("San Antonio Intl", 118),
        ("San Diego Intl", 419),
        ("San Francisco Intl", 2036),
    ),
    case(
        "text is ordered by code point",
        """
        measures: "flights" dimensions: "dest_name" filter { all_of { filters { condition { member: "dest_name"
        operator: FILTER_OPERATOR_GE values { string_value: "S" } } } filters { condition { member: "dest_name"
        operator: FILTER_OPERATOR_LT values { string_value: "San G" } } } } }
        """,
        """
        SELECT dest_name, count(*) FROM joined WHERE dest_name COLLATE "C" >= 'S' AND dest_name COLLATE "C" <
        'San G' GROUP BY 1 ORDER BY dest_name COLLATE "C"
        """,
        ("Sacramento Intl", 34),
        ("Salt Lake City Intl", 334),
        ("San Antonio Intl", 118),
        ("San Diego Intl", 419),
        ("San Francisco Intl", 2036),
    ),
    case(
        "between ends before its second value",
        """
        measures: "flights" dimensions: "hour" filter { condition { member: "hour" operator:
        FILTER_OPERATOR_BETWEEN values { int64_value: 6 } values { int64_value: 8 } } }
        """,
        "SELECT hour, count(*) FROM joined WHERE hour >= 6 AND hour < 8 GROUP BY 1 ORDER BY 1",
        (6, 3953),
        (7, 3366),
    ),
    case(
        "a boolean that is not true is false",
        """
        measures: "flights" dimensions: "raining" filter { condition { member: "raining" operator:
        FILTER_OPERATOR_NE values { bool_value: true } } }
        """,
        "SELECT raining, count(*) FROM joined WHERE NOT raining GROUP BY 1",
        (False, 46400),
    ),
    case(
        "decimals are compared exactly",
        """
        measures: "flights" dimensions: "dest_latitude" dimensions: "dest" filter { condition { member:
        "dest_latitude" operator: FILTER_OPERATOR_IN values { decimal_value: "33.9" } values { decimal_value:
        "42.40" } values { int64_value: 41 } } }
        """,
        """
        SELECT round(dest_lat::numeric, 1), dest, count(*) FROM joined WHERE round(dest_lat::numeric, 1) IN
        (33.9, 42.4, 41) GROUP BY 1, 2 ORDER BY 1, 2
        """,
        (Decimal("33.9"), "CAE", 13),
        (Decimal("33.9"), "LAX", 2435),
        (Decimal("42.4"), "BOS", 2321),
    ),
    case(
        "a date is a day in the dimension's own calendar",
        """
        measures: "flights" filter { condition { member: "flight_date" operator: FILTER_OPERATOR_BETWEEN values
        { date_value { year: 2013 month: 7 day: 4 } } values { date_value { year: 2013 month: 7 day: 6 } } } }
        """,
        "SELECT count(*) FROM joined WHERE date IN ('2013-07-04', '2013-07-05')",
        (235,),
    ),
    case(
        "an instant is compared to the microsecond",
        """
        measures: "flights" filter { condition { member: "time_hour" operator: FILTER_OPERATOR_LE values {
        timestamp_value { seconds: 1357034400 } } } }
        """,
        "SELECT count(*) FROM joined WHERE time_hour <= '2013-01-01 10:00Z'",
        (1,),
    ),
)
