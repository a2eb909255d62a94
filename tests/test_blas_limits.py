"""Limits on the threads of BLAS, of several that hold it at once."""

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from sparselm import threads
from sparselm.threads import limit_blas, serial_blas


def numbers():
    np.dot(np.ones(3), np.ones(3))
    return {library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info()}


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
    with threadpool_limits(limits=4, user_api="blas"):
        if numbers() != {4}:
            pytest.skip("this BLAS does not take a number of threads")
        yield
        assert numbers() == {4}


def test_one_thread_within_a_limit(four):
    with limit_blas(2):
        assert numbers() == {2}
        with serial_blas(), limit_blas(3):
            assert numbers() == {1}
        assert numbers() == {2}


def test_the_first_of_several_solves_decides_and_the_last_restores(four):
    first, second, serial = limit_blas(2), limit_blas(3), serial_blas()
    for holder, expected in ((first, 2), (second, 2), (serial, 1)):
        holder.__enter__()
        assert numbers() == {expected}
    for holder, expected in ((first, 1), (serial, 3), (second, 4)):
        holder.__exit__(None, None, None)
        assert numbers() == {expected}
