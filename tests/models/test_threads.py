"""Threads of networks are limited inside a context only, and cores work on independent things in order."""

import threading

import pytest
import torch

import lgsfm
from lgsfm import models
from lgsfm.errors import MemoryShortageError
from lgsfm.models import explained_memory_errors, limited_threads, on_all_cores


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_limited_threads_end_with_the_context(four_threads):
    with limited_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    with limited_threads(-1):
        assert torch.get_num_threads() == 4


def test_the_setting_limits_threads(four_threads):
    with lgsfm.Settings.from_flags({"threads": 2}).limited_threads():
        assert torch.get_num_threads() == 2
    with lgsfm.Settings.from_flags({}).limited_threads():
        assert torch.get_num_threads() == 4


def test_results_come_in_the_order_of_the_items_and_threads_are_shared(four_threads):
    seen = []

    def work(item):
        seen.append((threading.current_thread(), torch.get_num_threads()))
        return item * item

    assert on_all_cores(work, list(range(20))) == [i * i for i in range(20)]
    assert {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == 4
    seen.clear()
    on_all_cores(work, [1, 2])
    assert {threads for _, threads in seen} == {2}
    assert on_all_cores(work, []) == []


def test_no_more_at_once_than_memory_is_meant_for(four_threads, monkeypatch):
    monkeypatch.setattr(models, "MOST_AT_ONCE", 2)
    busy, most, lock = [0], [0], threading.Lock()

    def work(item):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        threading.Event().wait(0.01)
        with lock:
            busy[0] -= 1

    on_all_cores(work, list(range(8)))
    assert most[0] == 2


def test_an_error_of_one_item_is_raised(four_threads):
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda item: 1 // item, [1, 0, 2])
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
    ],
)
def test_every_way_in_which_torch_says_that_memory_is_short_is_understood(text):
    with pytest.raises(MemoryShortageError, match="--max-keypoints"), explained_memory_errors():
        raise RuntimeError(text)
