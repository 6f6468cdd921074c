"""Words of PostgreSQL 18 that matter in expressions. A test compares them with ``pg_get_keywords`` and ``pg_proc``."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESERVED_WORDS = _words("""
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
    unique user using variadic verbose when where window with
""")
"""Words that are no identifier unless quoted."""

AGGREGATES = _words("""
    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp cume_dist dense_rank
    every json_agg json_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique
    json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg jsonb_object_agg_strict
    jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode percent_rank percentile_cont percentile_disc
    range_agg range_intersect_agg rank regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx
    regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg
""")

SET_FUNCTIONS = _words("""
    aclexplode generate_series generate_subscripts json_array_elements json_array_elements_text json_each json_each_text
    json_object_keys json_populate_recordset json_to_recordset jsonb_array_elements jsonb_array_elements_text jsonb_each
    jsonb_each_text jsonb_object_keys jsonb_path_query jsonb_path_query_tz jsonb_populate_recordset jsonb_to_recordset
    regexp_matches regexp_split_to_table string_to_table ts_debug ts_parse ts_stat ts_token_type unnest
""")
"""Functions that return several rows."""

VOLATILE_FUNCTIONS = _words("""
    array_sample array_shuffle clock_timestamp current_query currval gen_random_uuid lastval loread lowrite nextval now
    random random_normal set_config setseed setval statement_timestamp timeofday transaction_timestamp uuidv4 uuidv7
""")
"""Functions whose value changes from call to call, or that do something; beside those with the prefixes below."""

VOLATILE_PREFIXES = ("cursor_to_xml", "dblink", "lo_", "pg_", "query_to_xml", "txid_", "uuid_generate_")

SESSION_FUNCTIONS = _words("""
    current_database current_schema current_schemas current_setting getpgusername inet_client_addr inet_client_port
    inet_server_addr inet_server_port row_security_active version
""")
"""Functions whose value depends on the database session."""
