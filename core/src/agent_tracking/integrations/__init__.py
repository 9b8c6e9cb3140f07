"""Servers, frameworks and runtimes: each request's ids, and processes that end or freeze in their own ways.

- :mod:`agent_tracking.integrations.asgi`: uvicorn with several workers, and every other ASGI server.
- :mod:`agent_tracking.integrations.wsgi`: Flask, Django and every other WSGI application.
- :mod:`agent_tracking.integrations.celery`: what is bound where a task is called, where it runs.
- :mod:`agent_tracking.integrations.serverless`: runtimes that may freeze the process once it has answered.
- :mod:`agent_tracking.integrations.otel`: the counters as OpenTelemetry metrics.

Nothing here is imported unless it is asked for.
"""
