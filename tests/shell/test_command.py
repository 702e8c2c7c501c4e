"""Commands of the user: run without a shell, bounded in time and size, and told when they fail."""

import sys
import time
from pathlib import Path

import pytest

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.shell import command


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_is_split_as_a_shell_would_and_no_shell_runs_it() -> None:
    assert command.words("ssh -p 22 'my router' vtysh") == ["ssh", "-p", "22", "my router", "vtysh"]
    assert command.run(["echo"], "$HOME; `id` | wc > x") == "$HOME; `id` | wc > x\n"


@pytest.mark.parametrize("text", ["", "   ", "vtysh 'x", "'"])
def test_what_cannot_be_a_command(text: str) -> None:
    with pytest.raises(Unable):
        command.words(text)


def test_over_ssh_the_question_stays_one_word(tmp_path: Path) -> None:
    """As ssh does: what follows the host is joined, and a shell there splits it again."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    there = tmp_path / "birdc"
    there.write_text('#!/bin/sh\nfor each; do echo "<$each>"; done\n')
    there.chmod(0o755)
    question = "show route where net ~ [ 10.0.0.0/8+ ] && x"
    assert command.run([str(ssh), "router", str(there), "-r"], question) == f"<-r>\n<{question}>\n"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(Unable, match="/nowhere/vtysh cannot be run: No such file"):
        command.run(["/nowhere/vtysh"], "x")


def test_one_that_fails_is_told_with_what_it_said_last() -> None:
    with pytest.raises(Unavailable, match=r"failed \(exit code 3\): no\ufffd way"):
        command.run(python(r"import sys; sys.stderr.write('a\nno\x1b way\n'); sys.exit(3)"))
    with pytest.raises(Unavailable, match="it said nothing"):
        command.run(["false"])


def test_one_that_says_nothing_or_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = f"import subprocess; p = subprocess.Popen(['sleep', '60']); open('{file}', 'w').write(str(p.pid))"
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer within 1 s; does it ask for a password"):
        command.run(python(f"{code}; p.wait()"), timeout_s=1.0)
    assert time.monotonic() - began < 5
    for _ in range(100):
        if not running(int(file.read_text())):
            break
        time.sleep(0.02)
    assert not running(int(file.read_text()))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_one_that_floods_us_is_ended() -> None:
    with pytest.raises(Unavailable, match="says more than 1 MiB"):
        command.run(["yes"], most_bytes=1 << 20)


def test_it_gets_no_input_and_bytes_that_are_no_text_do_no_harm() -> None:
    assert command.run(["cat"]) == ""
    assert command.run(python(r"import sys; sys.stdout.buffer.write(b'\xff\xfe ok')")) == "\ufffd\ufffd ok"


def test_it_leaves_no_process_and_no_file_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        command.run(["true"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
