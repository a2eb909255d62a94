"""The code blocks of README.md and docs/: what is shown there runs."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of each fenced block in a language."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 2, m[2]) for m in _FENCE.finditer(text) if m[1] == language]


def _pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if _blocks(page, language)]


@pytest.mark.parametrize("page", _pages_with("python"), ids=lambda page: page.stem)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other in one namespace, as a reader would type them in.

    They stand in a file at their lines in the page, so that a traceback points there, and so that kernels can be cached.
    """
    lines: list[str] = []
    for number, block in _blocks(page, "python"):
        lines += [""] * (number - 1 - len(lines)) + block.splitlines()
    script = tmp_path / f"{page.stem}_snippets.py"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    runpy.run_path(str(script), run_name=script.stem)


@pytest.mark.parametrize("page", _pages_with("toml"), ids=lambda page: page.stem)
def test_toml_blocks_parse(page: Path) -> None:
    from sparselm.plugins import KINDS

    for _, block in _blocks(page, "toml"):
        groups = tomllib.loads(block)["project"]["entry-points"]
        assert all(group.removeprefix("sparselm.") in KINDS for group in groups)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_key_of_the_json_report_is_documented(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sparselm.cli import main
    from sparselm.datasets import street
    from sparselm.io import write_bal

    write_bal(tmp_path / "small.txt", street(4, 50, seed=1).data)
    report = tmp_path / "report.json"
    assert main(["solve", str(tmp_path / "small.txt"), "--report", str(report), "--quiet"]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")))
    assert set(content) | set(content["time"]) | set(content["iterations"][0]) <= described


def test_parts_in_the_readme_exist() -> None:
    import sparselm as slm

    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Parts you can swap")[1].split("\n## ")[0]
    missing = [name for name in re.findall(r"`([A-Z]\w+)`", table) if not hasattr(slm, name)]
    assert not missing
