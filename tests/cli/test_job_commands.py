"""Jobs from the command line: submitted, watched, listed, cancelled, downloaded."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import asyncpg
import polars as pl

from tests.support.cli import Demo

ASKED = ("flights", "-m", "flights", "-b", "carrier,dest")


def test_a_job_is_submitted_watched_and_downloaded(demo: Demo, tmp_path: Path) -> None:
    submitted = demo.broker("submit", *ASKED, "--label", "team=web", "--priority", "3")
    assert submitted.returncode == 0, submitted.stderr
    name = submitted.stdout.strip()

    watched = demo.broker("watch", name)
    assert watched.returncode == 0, watched.stderr
    assert "succeeded" in watched.stderr
    assert f"broker jobs download {name}" in watched.stderr

    job = json.loads(demo.broker("jobs", "get", name.rpartition("/")[2]).stdout)
    assert (job["state"], job["labels"], job["priority"]) == ("JOB_STATE_SUCCEEDED", {"team": "web"}, 3)

    downloaded = demo.broker("jobs", "download", name, "-o", str(tmp_path / "new" / "folder"))
    assert downloaded.returncode == 0, downloaded.stderr
    (file,) = (tmp_path / "new" / "folder").iterdir()
    assert f"SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()} verified" in downloaded.stderr
    assert pl.read_parquet(file)["flights"].sum() == 20_000

    listed = demo.broker("jobs", "list", "--state", "succeeded").stdout
    assert name.rpartition("/")[2] in listed


def test_submitting_again_with_the_same_request_id_is_the_same_job(demo: Demo) -> None:
    given = ("--request-id", "0b0f0d9e-6d0a-4c39-9a53-0d7a3f0b8f11")
    first, second = demo.broker("submit", *ASKED, *given), demo.broker("submit", *ASKED, *given)
    assert first.stdout == second.stdout != ""
    other = demo.broker("submit", "flights", "-m", "miles", *given)
    assert other.returncode == 4
    assert "REQUEST_ID_REUSED" in other.stderr


def test_waiting_and_downloading_go_in_one_command(demo: Demo, tmp_path: Path) -> None:
    result = demo.broker("submit", *ASKED, "--format", "csv", "-o", str(tmp_path))
    assert result.returncode == 0, result.stderr
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".csv"
    assert pl.read_csv(file).columns == ["carrier", "dest", "flights"]


def test_a_check_stores_nothing(demo: Demo) -> None:
    assert demo.broker("submit", *ASKED, "--check").stdout == "The job would be accepted.\n"
    wrong = demo.broker("submit", "flights", "-m", "fligths", "--check")
    assert wrong.returncode == 4
    assert "  measures[0]: " in wrong.stderr


def test_a_finished_job_cannot_be_cancelled_and_says_so(demo: Demo) -> None:
    name = demo.broker("submit", *ASKED, "--wait").stdout.strip()
    result = demo.broker("jobs", "cancel", name)
    assert result.returncode == 4
    assert "JOB_STATE" in result.stderr


def test_dead_letters_are_shown_queued_again_and_deleted(demo: Demo) -> None:
    done, other = (demo.broker("submit", *ASKED, "--wait").stdout.strip() for _ in range(2))
    kill = """
        UPDATE broker.job SET state = 'failed', dead_lettered = true, result = NULL, result_inline = NULL,
               failure = '{"reason": "WORKER_CRASH_LOOP", "message": "It ended three processes."}' WHERE id = ANY($1)
    """

    async def make_dead() -> None:
        connection = await asyncpg.connect(demo.dsn)
        ids = [name.rpartition("/")[2] for name in (done, other)]
        await connection.execute("DELETE FROM broker.job_part WHERE job_id = ANY($1)", ids)
        await connection.execute(kill, ids)
        await connection.close()

    asyncio.run(make_dead())
    listed = demo.broker("jobs", "dead", "list").stdout
    assert "three processes" in listed
    assert demo.broker("jobs", "dead", "requeue").returncode == 2
    assert demo.broker("jobs", "dead", "requeue", done, "--attempts", "2").stdout == "1 queued again.\n"
    assert demo.broker("watch", done).returncode == 0
    assert demo.broker("jobs", "dead", "purge", done).returncode == 4
    assert demo.broker("jobs", "dead", "purge", "--all").stdout == "1 deleted.\n"
    assert demo.broker("jobs", "get", other).returncode != 0


def test_an_answer_is_kept_as_a_dataset_and_asked(demo: Demo) -> None:
    made = demo.broker("submit", *ASKED, "--dataset", "routes", "--keep", "2h", "--wait")
    assert made.returncode == 0, made.stderr
    assert "broker explore routes" in made.stderr
    asked = demo.broker("query", "routes", "-m", "flights", "--format", "json")
    assert asked.returncode == 0, asked.stderr
    assert "materialized" in asked.stdout + asked.stderr
    assert "20000" in asked.stdout
    assert demo.broker("submit", *ASKED, "--dataset", "routes", "--keep", "soon").returncode == 2
