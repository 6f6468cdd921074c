"""The supervisor ends with its program, and its program with the owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from broker.demo import supervise
from broker.demo.install import Account
from broker.demo.supervised import Supervised

SCRIPT = Path(supervise.__file__)
ME = Account(os.geteuid(), os.getegid())
# Prints its process id when it is ready for signals; then waits for one without end.
STUBBORN = """
import os, signal, sys
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), lambda number, _: os.write(1, b"%d\\n" % number))
os.write(1, b"%d\\n" % os.getpid())
while True:
    signal.pause()
"""


def run(command: list[str], output: Path) -> Supervised:
    with output.open("wb") as file:
        return Supervised(command, ME, file)


@pytest.mark.parametrize(
    ("program", "code"), [("exit(0)", 0), ("exit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143)]
)
def test_the_exit_code_is_the_programs(tmp_path: Path, program: str, code: int) -> None:
    supervised = run([sys.executable, "-c", program], tmp_path / "out")
    assert supervised.wait() == code
    assert supervised.close() == code


def test_a_program_that_is_not_there_is_code_127_and_a_message(tmp_path: Path) -> None:
    assert run([str(tmp_path / "missing")], tmp_path / "out").close() == 127
    assert (tmp_path / "out").read_text() == f"cannot run {tmp_path / 'missing'}: No such file or directory\n"


def test_a_wait_that_is_over_before_the_program_says_so(tmp_path: Path) -> None:
    supervised = run([sys.executable, "-c", STUBBORN], tmp_path / "out")
    assert supervised.wait(0.01) is None
    supervised.close()


def test_the_program_sees_neither_the_pipe_nor_postgres_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    program = "import os, sys; print(sys.stdin.read() == '', 'PGPORT' in os.environ, os.getcwd())"
    supervised = run([sys.executable, "-c", program], tmp_path / "out")
    supervised.wait()
    assert supervised.close() == 0
    assert (tmp_path / "out").read_text() == "True False /\n"


class Supervision:
    """A supervisor started by hand, with the output of its program on a pipe to wait for."""

    def __init__(self, *caught: str, script: Path = SCRIPT) -> None:
        program = [sys.executable, "-c", STUBBORN, *caught]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(ME.uid), str(ME.gid), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.program = psutil.Process(self.next_number())

    def next_number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def close_pipe(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self) -> int:
        code = self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert not self.program.is_running()
        return code


def test_bytes_on_the_pipe_are_signals_for_the_program() -> None:
    supervision = Supervision("SIGUSR1", "SIGTERM")
    assert supervision.process.stdin is not None
    for number in (signal.SIGUSR1, signal.SIGTERM):
        supervision.process.stdin.write(bytes([number]))
        assert supervision.next_number() == number
    supervision.process.stdin.write(bytes([signal.SIGKILL]))
    assert supervision.ended() == 128 + signal.SIGKILL


def test_the_end_of_the_owner_interrupts_the_program() -> None:
    supervision = Supervision("SIGINT")
    supervision.close_pipe()
    assert supervision.next_number() == signal.SIGINT
    supervision.program.kill()
    assert supervision.ended() == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_told_to_stop_passes_it_on(number: signal.Signals) -> None:
    supervision = Supervision()
    supervision.process.send_signal(number)
    assert supervision.ended() == 128 + signal.SIGINT


def test_a_hangup_of_the_terminal_changes_nothing() -> None:
    supervision = Supervision("SIGUSR1")
    supervision.process.send_signal(signal.SIGHUP)
    assert supervision.process.stdin is not None
    supervision.process.stdin.write(bytes([signal.SIGUSR1]))
    assert supervision.next_number() == signal.SIGUSR1
    supervision.close_pipe()
    assert supervision.ended() == 128 + signal.SIGINT


def test_a_program_that_does_not_stop_is_stopped_harder_from_step_to_step(tmp_path: Path) -> None:
    # The same supervisor with shorter patience: the steps are data of its module.
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.count("20.0") == text.count("5.0") == 1
    script = tmp_path / "impatient.py"
    script.write_text(text.replace("20.0", "0.2").replace("5.0", "0.2"), encoding="utf-8")
    supervision = Supervision("SIGINT", "SIGQUIT", script=script)
    supervision.close_pipe()
    assert [supervision.next_number(), supervision.next_number()] == [signal.SIGINT, signal.SIGQUIT]
    assert supervision.ended() == 128 + signal.SIGKILL
