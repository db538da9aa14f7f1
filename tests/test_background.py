"""Reading ahead and writing behind: in order, within bounds, no error lost, no thread left."""

import subprocess
import sys
import threading
import time

import pytest

from lgsfm.background import read_ahead, write_behind
from lgsfm.errors import InputError


# --------------------------------------------------------------------------------- reading ahead
def test_read_ahead_keeps_the_order_and_each_error_with_its_item():
    def read(number):
        if number % 3 == 0:
            raise InputError(f"bad {number}")
        return number**2

    with read_ahead(range(10), read) as items:
        results = list(items)
    assert [item for item, _ in results] == list(range(10))
    for item, result in results:
        if item % 3 == 0:
            with pytest.raises(InputError, match=f"bad {item}"):
                result()
        else:
            assert result() == item**2


def test_read_ahead_works_in_the_background_but_not_far_ahead():
    threads, read = set(), []

    def slow(number):
        threads.add(threading.current_thread())
        read.append(number)
        return number

    with read_ahead(range(50), slow) as items:
        for item, result in items:
            result()
            time.sleep(0.002)  # the network works; photos must not pile up meanwhile
            assert len(read) <= item + 4
    assert threading.main_thread() not in threads
    assert read == list(range(50))


def test_leaving_early_ends_the_reading():
    read = []
    with read_ahead(range(1000), read.append) as items:
        next(items)
    num_read = len(read)
    time.sleep(0.01)
    assert num_read == len(read) < 10


# --------------------------------------------------------------------------------- writing behind
def test_calls_are_made_in_order_and_all_are_done_at_the_end():
    written = []
    with write_behind() as write:
        for i in range(100):
            write(written.append, i)
    assert written == list(range(100))


def test_the_caller_waits_once_too_many_calls_do():
    gate, handed_over = threading.Event(), []

    def produce():
        with write_behind(count=3) as write:
            for i in range(10):
                write(gate.wait)
                handed_over.append(i)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(0.2)
    assert len(handed_over) == 3
    gate.set()
    producer.join()
    assert len(handed_over) == 10


def test_an_error_is_raised_and_nothing_is_called_behind_it():
    written, gate = [], threading.Event()

    def fail():
        gate.wait()
        raise OSError("disk full")

    def hand_over():
        with write_behind() as write:
            write(fail)
            write(written.append, 1)
            gate.set()

    with pytest.raises(OSError, match="disk full"):
        hand_over()
    assert written == []


def test_a_failed_write_is_told_with_the_interruption():
    gate = threading.Event()

    def fail():
        gate.wait()
        raise OSError("disk full")

    def hand_over():
        with write_behind() as write:
            write(fail)
            gate.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        hand_over()
    assert "disk full" in caught.value.__notes__[0]


def test_what_was_handed_over_is_written_before_an_interruption_goes_on():
    written = []

    def slowly(i):
        time.sleep(0.02)
        written.append(i)

    def hand_over():
        with write_behind() as write:
            for i in range(5):
                write(slowly, i)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hand_over()
    assert written == list(range(5))


# --------------------------------------------------------------------------------- no room for a thread
LIMITED = """
import resource, sys
from lgsfm.background import read_ahead, write_behind
from lgsfm.errors import MemoryShortageError
from lgsfm.silence import told_of_silence
from pathlib import Path

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for context in (read_ahead(range(9), abs), write_behind()):
    try:
        with context:
            print("began")
    except MemoryShortageError as exc:
        print(exc)
with told_of_silence("COLMAP", Path("log")):
    print("unwatched")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
@pytest.mark.parametrize("room_kb", [8300, 8400, 9000, 20000])  # a stack, and less or more than a thread needs beside
def test_where_there_is_no_room_for_a_thread_nobody_waits_for_it(room_kb):
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(room_kb)], capture_output=True, text=True, timeout=60, check=False
    )
    first, second, third = ended.stdout.splitlines()
    assert first == second
    assert first.startswith("No thread can be started (no room for a thread): memory is short")
    assert third == "unwatched"
    assert (ended.returncode, ended.stderr) == (0, "")


def test_where_there_is_room_the_threads_begin():
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, "400000"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.split() == ["began", "began", "unwatched"]
