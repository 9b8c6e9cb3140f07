"""A Celery application whose broker is a folder."""

from __future__ import annotations

import os

from celery import Celery

from agent_tracking import track

folder = os.environ["BROKER"]
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
    "polling_interval": 0.05,
}
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True


@app.task(ignore_result=True)
def work(n: int) -> None:
    track("task", {"n": n})
    with open(f"{folder}/done", "a") as done:
        done.write(f"{os.getpid()} {n}\n")
