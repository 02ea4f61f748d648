"""The HTTP server: health, metrics, a live view of the tree, and programs to be run; needs starlette and uvicorn."""

try:
    from foundation.http.app import application as application
    from foundation.http.listener import PortTaken as PortTaken
    from foundation.http.server import HttpServer as HttpServer
except ModuleNotFoundError as error:
    needed = str(error.name).partition(".")[0]
    if needed not in ("prometheus_client", "starlette", "uvicorn"):
        raise
    remedy = "pip install 'foundation-otp[web]'"
    raise ModuleNotFoundError(f"the HTTP server needs {needed}; run: {remedy}", name=needed) from error
