"""Compiled kernels on disk: found again by a second process, stale after an edit in any file they use, never required."""

import ast
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import sparselm
from sparselm._jit import source_stamp

SOLVE = """
import json, logging, sys, warnings
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from sparselm.kernels.reductions import dot
from sparselm.timing import PhaseClock
import numpy as np
clock = PhaseClock()
value = dot(np.ones(5), np.ones(5), np.zeros(1))
print(json.dumps({"value": value, "compile": clock.times().compile, "load": clock.times().load}))
"""


def run(tmp_path: Path, **environment: str) -> tuple[dict, str]:
    """Run in a process of its own on a copy of the package, so that its cache starts empty."""
    done = subprocess.run(
        [sys.executable, "-c", SOLVE],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path / "home"), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(Path(sparselm.__file__).parent, tmp_path / "sparselm", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    return tmp_path


def test_a_second_process_compiles_nothing_and_the_first_says_so(copy):
    first, said = run(copy)
    assert first["value"] == 5.0
    assert first["compile"] > 0.0
    assert "compiling kernels" in said
    second, said = run(copy)
    assert second["compile"] == 0.0
    assert second["load"] > 0.0
    assert "compiling" not in said


def test_an_edit_in_an_imported_file_recompiles(copy):
    run(copy)
    with open(copy / "sparselm" / "_jit.py", "a") as file:
        file.write("\n# edited\n")
    assert run(copy)[0]["compile"] > 0.0
    with open(copy / "sparselm" / "errors.py", "a") as file:
        file.write("\n# a file that kernel does not use\n")
    assert run(copy)[0]["compile"] == 0.0


def test_without_a_writable_cache_folder_it_runs_with_one_warning(copy):
    blocked = copy / "blocked"
    blocked.write_text("a file where folders should be made")
    package = copy / "sparselm"
    writable = [p for p in package.rglob("*") if p.is_dir()] + [package]
    for folder in writable:  # a file in place of each cache folder: root ignores permissions
        (folder / "__pycache__").write_text("")
    found, said = run(copy, HOME=str(blocked), XDG_CACHE_HOME=str(blocked), NUMBA_CACHE_DIR=str(blocked))
    assert found["value"] == 5.0
    assert said.count("compiled kernels cannot be kept") == 1


def test_a_filled_cache_turned_read_only_still_runs(copy):
    cache = copy / "cache"
    run(copy, NUMBA_CACHE_DIR=str(cache))
    for path in [cache, *cache.rglob("*")]:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR if path.is_dir() else stat.S_IRUSR)
    found, _ = run(copy, NUMBA_CACHE_DIR=str(cache))
    assert found["value"] == 5.0
    for path in [cache, *cache.rglob("*")]:
        path.chmod(stat.S_IRWXU)


def test_the_stamp_follows_imports():
    folder = Path(sparselm.__file__).parent
    assert source_stamp(str(folder / "kernels" / "so3.py")) != source_stamp(str(folder / "kernels" / "se3.py"))
    assert len(source_stamp(str(folder / "residuals" / "between.py"))) == 32


def test_the_stamp_sees_every_import_of_every_file():
    """What the sources say, read by Python's own parser."""
    from sparselm._jit import _read_imports

    package = Path(sparselm.__file__).parent

    def file_of(module):
        path = package.parent / module.replace(".", "/")
        found = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()]
        return str(found[0]) if found else None

    for source in package.rglob("*.py"):
        expected = set()
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sparselm":
                expected.add(file_of(node.module))
                if file_of(node.module).endswith("__init__.py"):
                    expected |= {file_of(f"{node.module}.{alias.name}") for alias in node.names}
            elif isinstance(node, ast.Import):
                expected |= {file_of(alias.name) for alias in node.names if alias.name.split(".")[0] == "sparselm"}
        missing = expected - {None} - set(_read_imports(str(source))[1])
        assert not missing, f"{source}: {missing}"
