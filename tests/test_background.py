"""Writing behind: in order, within bounds, no error lost. Reading ahead is tested with the stage that began it."""

import threading
import time

import pytest

from lgsfm.background import write_behind


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
