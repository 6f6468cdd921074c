"""Reading how much memory is in use."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from broker.runtime.memory import memory_share


def write(place: Path, **files: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text + "\n")


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


def test_a_limit_that_is_set_is_compared_with_this_process() -> None:
    resident = psutil.Process().memory_info().rss
    assert memory_share(resident * 2)() == pytest.approx(0.5, rel=0.2)


def test_a_container_counts_what_the_kernel_cannot_give_back(tmp_path: Path) -> None:
    write(tmp_path / "cg", memory__max="max")
    write(
        tmp_path / "cg/pod",
        memory__max="1000000",
        memory__current="700000",
        memory__stat="anon 1\ninactive_file 200000\nfile 300000",
    )
    write(tmp_path / "cg/pod/inner", memory__max="max", memory__current="5")
    read = memory_share(root=tmp_path / "cg", own=own(tmp_path, "0::/pod/inner\n"))
    assert read() == 0.5
    write(tmp_path / "cg/pod", memory__current="900000")
    assert read() == pytest.approx(0.7)


def test_an_old_container_too(tmp_path: Path) -> None:
    write(
        tmp_path / "cg/memory/pod",
        memory__limit_in_bytes="1000000",
        memory__usage_in_bytes="600000",
        memory__stat="inactive_file 7\ntotal_inactive_file 100000",
    )
    lines = "5:cpu,cpuacct:/pod\n4:memory:/pod\n0::/\n"
    assert memory_share(root=tmp_path / "cg", own=own(tmp_path, lines))() == 0.5


@pytest.mark.parametrize("text", ["", "0::/\n"])
def test_without_a_bound_the_machine_counts(tmp_path: Path, text: str) -> None:
    share = memory_share(root=tmp_path, own=own(tmp_path, text))()
    machine = psutil.virtual_memory()
    assert share == pytest.approx(1 - machine.available / machine.total, abs=0.1)
    assert 0.0 < share < 1.0


def test_no_list_of_groups_is_no_error(tmp_path: Path) -> None:
    assert 0.0 < memory_share(root=tmp_path, own=tmp_path / "none")() < 1.0
