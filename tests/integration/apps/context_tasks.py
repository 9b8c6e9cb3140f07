"""A Celery application whose tasks run with what is bound where they were called."""

from __future__ import annotations

import os
import time

from celery import Celery, Task

from agent_tracking import context, track
from agent_tracking.integrations.celery import carry_context

folder = os.environ["BROKER"]
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
    "polling_interval": 0.02,
}
app.conf.worker_prefetch_multiplier = 4
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = True
carry_context()
carry_context()


def count(n: int, step: str) -> None:
    track("step", {"n": n, "step": step})
    with open(f"{folder}/done", "a") as done:
        done.write(f"{n} {step}\n")


@app.task
def work(n: int) -> int:
    context.bind(properties={"bound in": n})
    time.sleep(0.002 * (n % 3))
    count(n, "work")
    return n


@app.task(bind=True)
def again(self: Task, n: int) -> None:
    count(n, f"again {self.request.retries}")
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task
def fail(n: int) -> None:
    count(n, "fail")
    raise ZeroDivisionError


def send(number: int) -> list[str]:
    """Call tasks; return the steps to expect."""
    kind = number % 4
    if kind == 0:
        (work.s(number) | work.s()).apply_async()
        return ["work", "work"]
    if kind == 1:
        again.delay(number)
        return ["again 0", "again 1"]
    if kind == 2:
        fail.delay(number)
        return ["fail"]
    work.apply(args=[number])  # at once, here
    work.delay(number)
    return ["work", "work"]
