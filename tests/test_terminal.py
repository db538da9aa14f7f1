"""What people see: log lines stand above the bars."""

from __future__ import annotations

import logging
import re

import pytest

from lgsfm.cli.terminal import AboveBars, Terminal


def test_a_log_line_has_a_line_of_its_own_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(style="terminal")
    report = terminal.progress("map")
    assert report is not None
    report(3, 9)
    AboveBars().handle(logging.makeLogRecord({"msg": "Nothing was heard of COLMAP for 1 minute."}))
    report(4, 9)
    terminal.close()
    said = capsys.readouterr().err
    assert re.search(r"3/9[^\n]*\r *\rNothing was heard of COLMAP for 1 minute\.\n", said)  # the bar was wiped away
    assert said.index("Nothing") < said.rindex("/9 ")  # and comes again below
