"""`lgsfm completion`: the shells take the script, and complete what the parser knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import run

from lgsfm.cli.completion import SHELLS

pytest.importorskip("shtab")


def completed(tmp_path: Path, *words: str) -> set[str]:
    """What bash offers for the last of the words, as a press of Tab would."""
    script = tmp_path / "lgsfm.bash"
    if not script.exists():
        script.write_text(run("completion", "bash").out)
    line = " ".join(f"'{word}'" for word in ("lgsfm", *words))
    press = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
        'function=$(complete -p lgsfm | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $function; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", press], cwd=tmp_path, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rec"], {"reconstruct"}),
        (["mat"], {"match"}),  # a stage, which the help of the program has no line for
        (["reconstruct", "--max-edge"], {"--max-edge-px"}),
        (["reconstruct", "--mapper", "g"], {"global"}),
        (["weights", "f"], {"fetch"}),
        (["completion", ""], set(SHELLS)),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], expected: set[str]) -> None:
    assert expected <= completed(tmp_path, *words)


def test_bash_completes_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "photos" in completed(tmp_path, "reconstruct", "pho")
    assert "photos" in completed(tmp_path, "reconstruct", "images", "-o", "pho")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_with_all_commands_and_flags(shell: str) -> None:
    ended = run("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    for word in ("reconstruct", "database", "max-edge-px", "incremental"):
        assert word in ended.out


def test_without_shtab_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    ended = run("completion", "bash")
    assert (ended.code, ended.out) == (1, "")
    assert "pip install 'lgsfm[completion]'" in ended.err
