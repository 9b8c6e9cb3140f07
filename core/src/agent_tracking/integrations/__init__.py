"""Servers and runtimes that end or freeze a process in ways of their own.

- :mod:`agent_tracking.integrations.asgi`: uvicorn with several workers, and every other ASGI server.
- :mod:`agent_tracking.integrations.wsgi`, :mod:`agent_tracking.integrations.serverless`: runtimes that may
  freeze the process once it has answered.

Nothing here is imported unless it is asked for.
"""
