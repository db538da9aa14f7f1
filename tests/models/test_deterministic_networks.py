"""Inside the deterministic context networks give the same bits on any number of cores; outside nothing has changed."""

import os
import threading

import pytest
import torch

from lgsfm.errors import InputError
from lgsfm.models import deterministic, on_all_cores, pairs_at_once


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def state():
    """All that the context touches."""
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        pairs_at_once(),
    )


def test_torch_is_deterministic_inside_and_as_before_outside(four_threads, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = state()
    with deterministic():
        assert state() == (1, True, False, False, True, False, ":4096:8", 4)
    assert state() == before


def test_an_error_leaves_nothing_behind_either(four_threads):
    before = state()
    with pytest.raises(ZeroDivisionError), deterministic():
        raise ZeroDivisionError
    assert state() == before


def test_a_choice_of_the_user_for_cublas_stays(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(("cores", "count", "workers"), [(4, 12, 4), (4, 2, 2), (3, 12, 3), (1, 3, 1)])
def test_each_item_has_one_thread_however_many_there_are(four_threads, cores, count, workers):
    seen, together = [], threading.Barrier(workers)

    def work(item):
        seen.append(torch.get_num_threads())
        together.wait(timeout=20)  # only if as many are at work at once
        return item

    with deterministic(cores):
        assert on_all_cores(work, list(range(count))) == list(range(count))
    assert seen == [1] * count


def test_an_operation_that_torch_cannot_repeat_is_explained():
    complaint = "index_thing does not have a deterministic implementation"  # as of some on a GPU
    with pytest.raises(InputError, match=complaint) as found, deterministic():
        raise RuntimeError(f"{complaint}, but you set 'torch.use_deterministic_algorithms(True)'. ...")
    assert "--deterministic" in str(found.value)
    with pytest.raises(RuntimeError, match="something else"), deterministic():
        raise RuntimeError("something else")
