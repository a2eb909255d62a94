"""What is compiled when: once for a function, again where it or what it refers to changes, and never else."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = '''
import json, sys
import numpy as np
import sparselm as slm
from sparselm._jit import compile_clock
{body}
problem = slm.Problem()
x = problem.add_variables("x", [[2.0, 3.0]])
group = problem.add_residuals({name}, x, data=[1.0])
compiled = compile_clock.compile_seconds > 0.0
with np.errstate(all="ignore"):
    found = slm.evaluate(problem)
print(json.dumps([compiled, found.residuals[group.name][0, 0], found.gradient.tolist()]))
'''

PLAIN = '''
import math
FACTOR = 2.0

def helper(v):
    return FACTOR * v

@slm.residual(dim=1)
def f(x, d):
    return helper(x[0]) * x[1] - d
'''


@pytest.fixture
def run(tmp_path):
    """Run a script in a new process, with an own cache: did it compile its residual, value and gradient."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}

    def start(body, *, how="file", name="f", file="script.py", **more):
        text = SCRIPT.format(body=body, name=name)
        if how == "file":
            path = tmp_path / file
            path.write_text(text)
            command, given = [sys.executable, str(path)], None
        elif how == "command":
            command, given = [sys.executable, "-c", text], None
        else:
            command, given = [sys.executable, "-"], text
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, env={**environment, **more}, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return start


def test_compiled_once_and_again_only_where_something_changed(run, tmp_path):
    # r = 2·2·3 − 1 = 11, ∂r = (6, 4)
    assert run(PLAIN) == [True, 11.0, [66.0, 44.0]]
    assert run(PLAIN) == [False, 11.0, [66.0, 44.0]]
    moved = "# a comment\n\n\n" + PLAIN.replace("def f(x, d):", 'def f(x, d):  # moved')
    assert run(moved, file="elsewhere.py") == [False, 11.0, [66.0, 44.0]]
    assert run(PLAIN, how="command") == [False, 11.0, [66.0, 44.0]]
    assert run(PLAIN, how="stdin") == [False, 11.0, [66.0, 44.0]]
    assert run(PLAIN.replace("FACTOR = 2.0", "FACTOR = 3.0"))[:2] == [True, 17.0]
    assert run(PLAIN.replace("FACTOR * v", "FACTOR + v"))[:2] == [True, 11.0]
    assert run(PLAIN.replace("x[1] - d", "x[1] + d"))[:2] == [True, 13.0]
    assert run(PLAIN)[0] is False


def test_closures_imported_helpers_and_modules(run, tmp_path):
    (tmp_path / "geometry.py").write_text("def double(v):\n    return 2.0 * v\n")
    closure = '''
def make(factor):
    @slm.residual(dim=1)
    def f(x, d):
        return factor * x[0] * x[1] - d
    return f
f, g = make({0}), make(5.0)
'''
    assert run(closure.format(2.0)) == [True, 11.0, [66.0, 44.0]]
    assert run(closure.format(2.0)) == [False, 11.0, [66.0, 44.0]]
    assert run(closure.format(4.0))[:2] == [True, 23.0]
    assert run(closure.format(2.0), name="g")[:2] == [True, 29.0]
    module = "import geometry\n@slm.residual(dim=1)\ndef f(x, d):\n    return geometry.double(x[0]) * x[1] - d\n"
    assert run(module) == [True, 11.0, [66.0, 44.0]]
    assert run(module)[0] is False
    (tmp_path / "geometry.py").write_text("def double(v):\n    return 3.0 * v\n")
    assert run(module)[:2] == [True, 17.0]


def test_prepared_and_hand_written_parts_are_kept_too(run):
    body = PLAIN + '''
@f.prepare("x")
def prepared(x):
    return 2.0 * x[0], x[1]

@f.jacobian
def jacobian(x, d):
    return 2.0 * FACTOR * x[1], FACTOR * x[0]
'''
    # the first linearisation compares with the jets, so one more kernel is compiled after ``compiled`` was read
    assert run(body) == [True, 23.0, [276.0, 184.0]]
    assert run(body) == [False, 23.0, [276.0, 184.0]]


def test_without_a_writable_cache_it_compiles_and_warns_once(run, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder")
    body = "import warnings\nwarnings.simplefilter('ignore')\n" + PLAIN
    environment = {"NUMBA_CACHE_DIR": str(blocked), "HOME": str(blocked)}
    assert run(body, **environment) == [True, 11.0, [66.0, 44.0]]


def test_many_edits_do_not_fill_the_disk(monkeypatch, tmp_path):
    from sparselm.autodiff import loops

    monkeypatch.setattr(loops, "MOST_MODULES", 3)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for k in range(6):
        path = loops._write_module(f"f_{k}.py", "")
        (tmp_path / "sparselm" / "__pycache__").mkdir(exist_ok=True)
        (tmp_path / "sparselm" / "__pycache__" / f"f_{k}.evaluate-1.py311.nbi").write_text("")
        os.utime(path, (k, k))
    assert sorted(p.name for p in (tmp_path / "sparselm").glob("*.py")) == ["f_3.py", "f_4.py", "f_5.py"]
    assert len(list((tmp_path / "sparselm" / "__pycache__").iterdir())) == 3
