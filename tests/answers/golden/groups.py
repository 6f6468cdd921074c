"""Groups: nulls in keys, order with ties, having."""

from __future__ import annotations

from tests.answers.golden.case import case

CASES = (
    case(
        "null is one group, sorted last",
        'measures: "flights" dimensions: "dest_zone"',
        'SELECT dest_zone, count(*) FROM joined GROUP BY 1 ORDER BY dest_zone COLLATE "C"',
        ("America/Anchorage", 1),
        ("America/Chicago", 11145),
        ("America/Denver", 1476),
        ("America/Los_Angeles", 7040),
        ("America/New_York", 28423),
        ("America/Phoenix", 658),
        ("Pacific/Honolulu", 109),
        (None, 1148),
    ),
    case(
        "nulls come first in either direction when asked for",
        """
        measures: "flights" dimensions: "dest_zone" order { member: "dest_zone" direction: SORT_DIRECTION_DESC
        nulls: NULL_ORDER_FIRST } limit: 3
        """,
        """
        SELECT dest_zone, count(*) FROM joined GROUP BY 1 ORDER BY dest_zone COLLATE "C" DESC NULLS FIRST LIMIT
        3
        """,
        (None, 1148),
        ("Pacific/Honolulu", 109),
        ("America/Phoenix", 658),
    ),
    case(
        "nulls come last in a descending order",
        """
        measures: "flights" dimensions: "dest_zone" order { member: "dest_zone" direction: SORT_DIRECTION_DESC }
        limit: 8
        """,
        """
        SELECT dest_zone, count(*) FROM joined GROUP BY 1 ORDER BY dest_zone COLLATE "C" DESC NULLS LAST LIMIT 8
        """,
        ("Pacific/Honolulu", 109),
        ("America/Phoenix", 658),
        ("America/New_York", 28423),
        ("America/Los_Angeles", 7040),
        ("America/Denver", 1476),
        ("America/Chicago", 11145),
        ("America/Anchorage", 1),
        (None, 1148),
    ),
    case(
        "nulls in two keys",
        'measures: "flights" dimensions: "raining" dimensions: "cancelled"',
        "SELECT raining, cancelled, count(*) FROM joined GROUP BY 1, 2 ORDER BY 1, 2",
        (False, False, 45414),
        (False, True, 986),
        (True, False, 3115),
        (True, True, 268),
        (None, False, 215),
        (None, True, 2),
    ),
    case(
        "no measures list the distinct keys",
        'dimensions: "origin" dimensions: "raining"',
        "SELECT DISTINCT origin, raining FROM joined ORDER BY 1, 2",
        ("EWR", False),
        ("EWR", True),
        ("EWR", None),
        ("JFK", False),
        ("JFK", True),
        ("JFK", None),
        ("LGA", False),
        ("LGA", True),
        ("LGA", None),
    ),
    case(
        "ties are broken by the keys, nulls last",
        'measures: "destinations" dimensions: "manufacturer" order { member: "destinations" } limit: 14',
        """
        SELECT manufacturer, count(DISTINCT dest) AS n FROM joined GROUP BY 1 ORDER BY n, manufacturer COLLATE
        "C" NULLS LAST LIMIT 14
        """,
        ("AVIONS MARCEL DASSAULT", 1),
        ("CANADAIR", 1),
        ("LEARJET INC", 1),
        ("PAIR MIKE E", 1),
        ("AGUSTA SPA", 2),
        ("AMERICAN AIRCRAFT INC", 2),
        ("AVIAT AIRCRAFT INC", 2),
        ("DEHAVILLAND", 2),
        ("DOUGLAS", 2),
        ("FRIEDEMANN JON", 2),
        ("HURLEY JAMES LARRY", 2),
        ("SIKORSKY", 2),
        ("KILDALL GARY", 3),
        ("LAMBERT RICHARD", 3),
    ),
    case(
        "null measures come last, then ties by key",
        """
        measures: "dep_delay" dimensions: "tailnum" filter { condition { member: "dest" operator:
        FILTER_OPERATOR_IN values { string_value: "LEX" } values { string_value: "EYW" } values { string_value:
        "MTJ" } values { string_value: "SBN" } } } order { member: "dep_delay" direction: SORT_DIRECTION_DESC }
        limit: 5
        """,
        """
        SELECT tailnum, sum(dep_delay)::float8 / count(dep_delay) FROM joined WHERE dest IN ('LEX', 'EYW',
        'MTJ', 'SBN') GROUP BY 1 ORDER BY 2 DESC NULLS LAST, 1 LIMIT 5
        """,
        ("N306DQ", 12.0),
        ("N836UA", 3.0),
        ("N820UA", 1.0),
        ("N759EV", -2.0),
        ("N310DE", -5.0),
    ),
    case(
        "having compares finished values",
        """
        measures: "flights" measures: "cancellation_rate" dimensions: "carrier" having { condition { member:
        "cancellation_rate" operator: FILTER_OPERATOR_GT values { double_value: 0.03 } } }
        """,
        """
        SELECT carrier, count(*), sum(cancelled::int)::float8 / count(*) FROM joined GROUP BY 1 HAVING
        sum(cancelled::int)::float8 / count(*) > 0.03 ORDER BY 1
        """,
        ("9E", 2787, 0.05956225331898098),
        ("EV", 7904, 0.05060728744939271),
        ("MQ", 3874, 0.04827052142488384),
        ("OO", 5, 0.2),
        ("US", 3020, 0.03245033112582781),
        ("YV", 71, 0.11267605633802817),
    ),
    case(
        "having leaves out the unknown",
        """
        measures: "flights" measures: "dep_delay" dimensions: "cancelled" having { not_filter { condition {
        member: "dep_delay" operator: FILTER_OPERATOR_GT values { int64_value: 1000 } } } }
        """,
        """
        SELECT cancelled, count(*), sum(dep_delay)::float8 / count(dep_delay) FROM joined GROUP BY 1 HAVING NOT
        avg(dep_delay) > 1000
        """,
        (False, 48744, 12.494460856720828),
    ),
    case(
        "having may drop the only group",
        """
        measures: "flights" having { condition { member: "flights" operator: FILTER_OPERATOR_LT values {
        int64_value: 10 } } }
        """,
        "SELECT count(*) FROM joined HAVING count(*) < 10",
    ),
    case(
        "a measure alone is one row",
        'measures: "flights" measures: "cancellations" measures: "late_arrivals"',
        """
        SELECT count(*), count(*) FILTER (WHERE cancelled), count(*) FILTER (WHERE arr_delay > 15) FROM joined
        """,
        (50000, 1256, 11445),
    ),
)
