"""Progress in a terminal, in a file or pipe, and in a notebook."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from lgsfm import bars
from lgsfm.bars import Bars, style_here

SHOW = """
from lgsfm.bars import Bars
bars = Bars()
bars.say("Features: sift.")
report = bars.progress("match")
for done in range(201):
    report(done, 200)
bars.close()
"""


def test_in_a_pipe_each_report_is_a_line(tmp_path) -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW], stderr=subprocess.PIPE, text=True, check=True).stderr
    assert "\r" not in shown
    first, *reports = shown.splitlines()
    assert first == "Features: sift."
    assert all(
        re.fullmatch(r"match: \d+ of 200, \S+ ?pair/s, \d\d:\d\d so far, [\d:?]+ left", line) for line in reports
    )
    assert len(reports) <= 3  # not 200
    assert reports[-1].startswith("match: 200 of 200")


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
@pytest.mark.parametrize(("lines", "columns"), [(24, 80), (0, 0), (0, 100)])  # in a container there may be no size
def test_in_a_terminal_a_bar_is_drawn_over_itself(lines: int, columns: int) -> None:
    import fcntl
    import pty
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", SHOW], stderr=inner)
    os.close(inner)
    shown = b""
    try:
        while part := os.read(outer, 4096):
            shown += part
    except OSError:  # Linux says so at the end
        pass
    process.wait()
    os.close(outer)
    assert b"\rmatch   :" in shown
    assert b"200/200" in shown


def test_lines_come_seldom(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "LINE_S", 0.0)
    shown = Bars(style="lines")
    report = shown.progress("extract")
    assert report is not None
    for done in range(4):
        report(done, 4)
    monkeypatch.setattr(bars, "LINE_S", 1e9)
    shown.close()  # one that did not reach its total is ended by its last state
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines[-2:]] == ["extract: 3 of 4", "extract: 3 of 4"]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Bars(quiet=True)
    shown.say("nothing")
    assert shown.progress("match") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("has_widgets", "style"), [(True, "notebook"), (False, "lines")])
def test_a_notebook_is_known_by_its_kernel(monkeypatch: pytest.MonkeyPatch, has_widgets: bool, style: str) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(bars, "find_spec", lambda name: SimpleNamespace() if has_widgets else None)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    assert style_here() == style


def test_a_stream_that_fails_silences_the_bars_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of a log file is full, say: the program that asked for bars goes on, and its own output too."""

    class Full:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stderr", Full())
    shown = Bars(style="lines")
    shown.say("Features: sift.")
    report = shown.progress("match") or (lambda done, total: None)
    report(1, 2)
    shown.close()
    assert shown.quiet
    os.write(1, b"")  # stdout is still what it was
    assert os.readlink("/proc/self/fd/1") != os.devnull if os.path.exists("/proc/self/fd/1") else True
