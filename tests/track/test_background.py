"""Work off the training thread: in order, never waiting, every loss counted."""

import contextvars
import threading
import time

from guardrail.track.background import Background, Losses


def test_things_are_handled_in_order_in_the_callers_context_and_waited_for():
    variable = contextvars.ContextVar("variable")
    seen = []
    background = Background("order", lambda thing: seen.append((thing, variable.get())))
    for number in range(50):
        variable.set(number * 2)
        background.put(number)
    assert background.wait(10)
    assert seen == [(n, n * 2) for n in range(50)]
    assert background.new_losses() is None


def test_a_service_that_hangs_costs_the_caller_nothing_and_loses_what_does_not_fit():
    released, seen = threading.Event(), []

    def hang(thing):
        released.wait(30)
        seen.append(thing)

    background = Background("hangs", hang, at_most=5)
    background.put(0)
    while background._waiting.qsize():  # the thread holds the first
        time.sleep(0.001)
    started = time.perf_counter()
    for number in range(1, 11):
        background.put(number)
    assert time.perf_counter() - started < 0.1
    assert not background.wait(0.05)
    assert background.left == 6
    assert background.new_losses() == Losses(5, "more than 5 records were waiting")
    assert background.new_losses() is None
    released.set()
    assert background.wait(10)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_errors_are_counted_said_in_the_owners_words_and_do_not_end_the_thread():
    seen = []

    def fail_on_odd(number):
        if number % 2:
            raise ValueError(f"secret {number}")
        seen.append(number)

    plain, own = (
        Background("plain", fail_on_odd),
        Background("own", fail_on_odd, lambda error: "refused"),
    )
    for number in range(4):
        plain.put(number)
        own.put(number)
    assert plain.wait(10)
    assert own.wait(10)
    assert sorted(seen) == [0, 0, 2, 2]
    assert plain.new_losses() == Losses(2, "ValueError: secret 3")
    assert own.new_losses() == Losses(2, "refused")
