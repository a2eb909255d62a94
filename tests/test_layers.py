"""Imports point down only, and the loop stays a picture: no I/O, no numerics, no type or string tests, short."""

import ast
from pathlib import Path

import pytest

import sparselm

PACKAGE = Path(sparselm.__file__).parent

# Rooms from the top down; a module may import rooms below its own. Names are module paths inside the package.
ROOMS = [
    {"__main__"},
    {"cli"},
    {"datasets", "io", "report.progress", "report.json_report", "testing"},
    {"plugins"},
    {"__init__"},
    {"driver", "scipy_api"},
    {"levenberg_marquardt"},
    {"model"},
    {"evaluator"},
    {"linearization", "box"},
    {"result"},
    {"report", "structure", "termination", "timing", "interrupt"},
    {"checking", "debugging"},
    {"problem"},
    {"variables"},
    {"damping"},
    {"linear_solvers.schur"},
    {"preconditioners"},
    {"linear_solvers", "residuals"},
    {"autodiff"},
    {"losses", "manifolds"},
    {"gather", "math"},
    {"kernels"},
    {"bounds", "threads", "_llvm_sums"},
    {"_jit", "_llvm", "errors"},
]


PLUG_INS = next(depth for depth, room in enumerate(ROOMS) if "damping" in room)


def room_of(module: str) -> int:
    for length in range(module.count(".") + 1, 0, -1):
        prefix = ".".join(module.split(".")[:length])
        for depth, room in enumerate(ROOMS):
            if prefix in room:
                return depth
    raise AssertionError(f"{module} belongs to no room: give it one")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports when it runs (not for type checking only)."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sparselm":
            base = node.module.partition(".")[2]
            for alias in node.names:
                inside = PACKAGE / base.replace(".", "/") / f"{alias.name}.py"
                found.add(f"{base}.{alias.name}".lstrip(".") if inside.exists() else base or "__init__")
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] or "__init__" for a in node.names if a.name.split(".")[0] == "sparselm"}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: module_name(p))
def test_imports_point_down(path):
    own = module_name(path)
    for other in imported(path):
        same_folder = own.split(".")[0] == other.split(".")[0]
        allowed = room_of(other) > room_of(own) or same_folder
        assert allowed or room_of(other) == room_of(own) < PLUG_INS, f"{own} imports {other}"


def test_kernels_hold_no_classes_but_named_tuples_of_arrays():
    for path in (PACKAGE / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert [ast.unparse(base) for base in node.bases] == ["NamedTuple"], path.name
                assert not [n for n in node.body if isinstance(n, ast.FunctionDef)], path.name


def test_the_loop_is_a_picture():
    text = (PACKAGE / "levenberg_marquardt.py").read_text()
    assert len(text.splitlines()) <= 100
    calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)}
    assert not calls & {"isinstance", "print", "open", "type"}
    compared = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Compare)]
    assert not [n for c in compared for n in ast.walk(c) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    assert not [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.BinOp) and not isinstance(n.op, ast.BitOr)]


def test_import_loads_no_optional_back_end_and_compiles_nothing():
    from test_levenberg_marquardt import run_python

    done = run_python(
        """
        import sys, numba.core.event as event
        with event.install_recorder("numba:compile") as compiled:
            import sparselm
        assert not compiled.buffer
        heavy = {"sksparse", "matplotlib", "pandas", "scipy.optimize"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert done.returncode == 0, done.stderr
