"""Every metric of the broker; ``docs/metrics.md`` shows the same list, and a test compares the two."""

from __future__ import annotations

from broker.telemetry import catalog_cache as cache
from broker.telemetry import catalog_rollups as rollups
from broker.telemetry import names as n
from broker.telemetry.names import Metric, MetricKind

_CALL = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)  # advised for RPC durations
_QUERY = (
    0.001,
    0.005,
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)  # databases: 10 s and more
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_LONG = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0)
_AGE = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


def _counter(name: str, unit: str, description: str, *attributes: str) -> Metric:
    return Metric(name, MetricKind.COUNTER, unit, description, attributes)


def _histogram(name: str, description: str, buckets: tuple[float, ...], *attributes: str) -> Metric:
    return Metric(name, MetricKind.HISTOGRAM, "s", description, attributes, buckets)


def _gauge(name: str, unit: str, description: str, *attributes: str) -> Metric:
    return Metric(name, MetricKind.GAUGE, unit, description, attributes)


RPC_DURATION = _histogram(
    "rpc.server.call.duration",
    "Duration of a call, from its arrival to its status.",
    _CALL, n.RPC_SYSTEM, n.RPC_METHOD, n.RPC_STATUS, n.ERROR_TYPE,
)  # fmt: skip
DB_DURATION = _histogram(
    "db.client.operation.duration",
    "Duration of a statement at the database.",
    _QUERY, n.DB_SYSTEM, n.DB_OPERATION, n.DB_COLLECTION, n.DB_POOL, n.DB_STATUS, n.ERROR_TYPE,
)  # fmt: skip
DB_WAIT = _histogram(
    "db.client.connection.wait_time", "Time until a database connection was free.", _FAST, n.DB_POOL
)
DB_CONNECTIONS = _gauge(
    "db.client.connection.count",
    "{connection}",
    "Database connections open.",
    n.DB_POOL,
    n.DB_CONNECTION_STATE,
)
DB_CONNECTION_LIMIT = _gauge(
    "db.client.connection.max", "{connection}", "Database connections allowed.", n.DB_POOL
)
BREAKER_STATE = _gauge(
    "querybroker.backend.breaker",
    "{state}",
    "State of a database's circuit breaker: 0 closed, 1 half-open, 2 open.",
    n.BACKEND,
)
BREAKER_CHANGES = _counter(
    "querybroker.backend.breaker.changes",
    "{change}",
    "Changes of a circuit breaker, by the new state and what led to it.",
    n.BACKEND, n.STATE, n.REASON,
)  # fmt: skip
BREAKER_REJECTIONS = _counter(
    "querybroker.backend.breaker.rejections",
    "{call}",
    "Calls that an open breaker kept from the database: refused, or sent to the primary instead.",
    n.BACKEND, n.OUTCOME,
)  # fmt: skip
STORE_RETRIES = _counter(
    "querybroker.backend.retries",
    "{call}",
    "Failed calls of a database: retried, or given up for want of attempts, time or budget.",
    n.BACKEND, n.OUTCOME,
)  # fmt: skip
FLEET_MEMBERS = _gauge(
    "querybroker.fleet.members",
    "{process}",
    "Processes that share the seats of a database, this one among them.",
    n.BACKEND,
)
CLASSIFIED = _counter(
    "querybroker.classification.requests",
    "{question}",
    "Questions classified, by class and by what the prediction rests on.",
    n.COST_CLASS, n.BASIS,
)  # fmt: skip
CALIBRATION_ERROR = _gauge(
    "querybroker.classification.calibration_error",
    "{share}",
    "Mean distance between the share of runs below a predicted quantile (p10, p50, p90) and its level.",
    n.BASIS,
)
ADMISSION = _counter(
    "querybroker.admission.requests",
    "{request}",
    "Decisions about requests that asked for a seat.",
    n.POOL, n.CRITICALITY, n.VERDICT, n.REASON,
)  # fmt: skip
REFUSALS = _counter(
    "querybroker.admission.refusals",
    "{request}",
    "Refusals, by what gave out and when: at the door (unread), on arrival, while waiting, when it was due.",
    n.POOL, n.REASON, n.STAGE, n.FACTOR,
)  # fmt: skip
WAIT_RATIO = Metric(
    "querybroker.queue.wait_ratio",
    MetricKind.HISTOGRAM,
    "{ratio}",
    "Time that an admitted request waited, over what was expected at its arrival.",
    (n.POOL,),
    (0.1, 0.25, 0.5, 0.75, 0.9, 1.1, 1.33, 2.0, 4.0, 10.0),
)
QUEUE_DURATION = _histogram(
    "querybroker.queue.duration", "Time that a request waited for its seat.", _FAST, n.POOL, n.VERDICT
)
QUEUE_LENGTH = _gauge("querybroker.queue.length", "{request}", "Requests waiting for a seat.", n.POOL)
SEAT_USAGE = _gauge("querybroker.pool.seat.usage", "{seat}", "Seats in use.", n.POOL)
SEAT_LIMIT = _gauge("querybroker.pool.seat.limit", "{seat}", "Seats allowed.", n.POOL)
SEATS_LENT = _gauge("querybroker.pool.seat.lent", "{seat}", "Seats that other pools use.", n.POOL)
SEATS_WASTED = _counter(
    "querybroker.pool.seat.wasted",
    "s",
    "Seat-seconds of work that was cut short by a deadline or a cancel, or stopped as hopeless.",
    n.POOL, n.OUTCOME,
)  # fmt: skip
FAIRNESS = _gauge(
    "querybroker.pool.fairness",
    "{ratio}",
    "Jain's index of the seat-seconds of tenants that had to wait, over 30 s: 1 is even.",
    n.POOL,
)
BACKEND_SEATS = _gauge("querybroker.backend.seat.usage", "{seat}", "Seats of a database in use.", n.BACKEND)
BACKEND_LIMIT = _gauge(
    "querybroker.backend.seat.limit", "{seat}", "Seats of a database that may be used now.", n.BACKEND
)
BACKEND_NOMINAL = _gauge(
    "querybroker.backend.seat.nominal", "{seat}", "Seats of a database as they are set or derived.", n.BACKEND
)
BACKEND_WISHED = _gauge(
    "querybroker.backend.seat.wished",
    "{seat}",
    "Seats that the limit policy would offer; differs where it is not in force.",
    n.BACKEND,
)
BACKEND_PROGRESS = _gauge(
    "querybroker.backend.progress", "{ratio}", "Speed of queries, relative to an idle database.", n.BACKEND
)
BACKEND_SESSIONS = _gauge(
    "querybroker.backend.sessions",
    "{session}",
    "Sessions of a database that execute, and those of them that wait for a lock or the disk, as far as the broker's "
    "role sees them; asked where the limit is not static.",
    n.BACKEND, n.STATE,
)  # fmt: skip
BACKEND_SIGNALS = _counter(
    "querybroker.backend.signals",
    "{signal}",
    "News of a database that its limit heard: what it refused for, that it was lost, that it is back.",
    n.BACKEND, n.REASON,
)  # fmt: skip
SEAT_DURATION = _histogram(
    "querybroker.pool.seat.duration", "Time that a request held its seat.", _QUERY, n.POOL, n.OUTCOME
)
DEADLINE_REMAINING = _histogram(
    "querybroker.deadline.remaining", "Time left of the deadline at admission.", _QUERY, n.POOL
)
ANSWERS = _counter(
    "querybroker.answer.count",
    "{answer}",
    "Answers by source; the reason is empty when the answer is not degraded.",
    n.METHOD, n.SOURCE, n.DEGRADED_REASON,
)  # fmt: skip
ANSWER_AGE = _histogram("querybroker.answer.age", "Staleness of the data in an answer.", _AGE, n.SOURCE)
CACHE_LOOKUPS = _counter(
    "querybroker.cache.lookups",
    "{lookup}",
    "Lookups in a tier of the answer cache (memory, shared): hit, whatever the age, miss, or error. And questions "
    "put to it: found as they are (answer) or in another answer (contained), fresh, stale, or miss.",
    n.TIER, n.RESULT,
)  # fmt: skip
FLIGHT_FOLLOWERS = _counter(
    "querybroker.flight.followers",
    "{request}",
    "Requests that joined an identical query under way.",
    n.METHOD,
)
FALLBACK = _counter(
    "querybroker.fallback.rung",
    "{step}",
    "Steps down the fallback ladder.",
    n.RUNG_FROM, n.RUNG_TO, n.REASON,
)  # fmt: skip
AGGREGATION_DURATION = _histogram(
    "querybroker.aggregation.duration",
    "Duration of a task in a worker process.",
    _FAST, n.POOL, n.OPERATION, n.OUTCOME,
)  # fmt: skip
WORKER_USAGE = _gauge(
    "querybroker.aggregation.worker.usage", "{task}", "Tasks under way in worker processes.", n.POOL
)
WORKER_LIMIT = _gauge("querybroker.aggregation.worker.limit", "{process}", "Worker processes alive.", n.POOL)
WORKER_RESTARTS = _counter(
    "querybroker.aggregation.worker.restarts", "{process}", "Worker processes replaced.", n.POOL, n.REASON
)
LOOP_LAG = _histogram("querybroker.event_loop.lag", "Delay of the event loop's timers.", _FAST)
JOBS = _gauge(
    "querybroker.job.count",
    "{job}",
    "Jobs queued, running and dead-lettered in the whole database; every broker tells the same.",
    n.JOB_STATE,
)
JOB_QUEUE_AGE = _gauge(
    "querybroker.job.queue.age", "s", "Age of the oldest job that is due; every broker tells the same."
)
JOB_DURATION = _histogram(
    "querybroker.job.duration", "Duration of a job's attempt.", _LONG, n.JOB_KIND, n.OUTCOME
)
WATCH_STREAMS = Metric(
    "querybroker.watch.streams",
    MetricKind.UP_DOWN_COUNTER,
    "{stream}",
    "Streams that follow a job or the state.",
    (n.STREAM,),
)
GUARD_STEP = _gauge(
    "querybroker.guard.step",
    "{step}",
    "What the broker does to protect itself: 0 nothing, 1 sheds, 2 takes the most important calls only, "
    "3 ends large streams.",
)
DECISIONS_LOST = _counter(
    "querybroker.decision_log.lost", "{event}", "Events that the decision log could not take in time."
)
MEMORY_SHARE = _gauge(
    "querybroker.memory.share", "{ratio}", "Share of the memory that may be used that is in use."
)
MEMORY = _gauge("process.memory.usage", "By", "Resident memory of the process.")

METRICS: tuple[Metric, ...] = (
    RPC_DURATION, DB_DURATION, DB_WAIT, DB_CONNECTIONS, DB_CONNECTION_LIMIT,
    BREAKER_STATE, BREAKER_CHANGES, BREAKER_REJECTIONS, STORE_RETRIES, FLEET_MEMBERS,
    CLASSIFIED, CALIBRATION_ERROR, ADMISSION, REFUSALS, QUEUE_DURATION, WAIT_RATIO, QUEUE_LENGTH,
    SEAT_USAGE, SEAT_LIMIT, SEATS_LENT, SEATS_WASTED, SEAT_DURATION, FAIRNESS, DEADLINE_REMAINING,
    BACKEND_SEATS, BACKEND_LIMIT, BACKEND_NOMINAL, BACKEND_WISHED, BACKEND_PROGRESS, BACKEND_SESSIONS, BACKEND_SIGNALS,
    ANSWERS, ANSWER_AGE, CACHE_LOOKUPS, FLIGHT_FOLLOWERS, FALLBACK,
    AGGREGATION_DURATION, WORKER_USAGE, WORKER_LIMIT, WORKER_RESTARTS,
    LOOP_LAG, JOBS, JOB_QUEUE_AGE, JOB_DURATION, WATCH_STREAMS, GUARD_STEP, DECISIONS_LOST, MEMORY_SHARE, MEMORY,
    *cache.METRICS,
    *rollups.METRICS,
)  # fmt: skip
