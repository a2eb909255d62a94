"""Markers that SciPy's own tests carry; they mean something to SciPy's set-up only."""


def pytest_configure(config):
    for name in ("parallel_threads_limit(n)", "fail_slow(seconds)"):
        config.addinivalue_line("markers", f"{name}: SciPy's")
