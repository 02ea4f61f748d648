"""The HTTP front: health, metrics, a live view of the tree, and programs to be run; needs starlette and uvicorn."""

try:
    from foundation.http.app import application as application
    from foundation.http.door import PortTaken as PortTaken
    from foundation.http.front import Front as Front
except ModuleNotFoundError as error:
    needed = str(error.name).partition(".")[0]
    if needed not in ("prometheus_client", "starlette", "uvicorn"):
        raise
    remedy = "pip install 'foundation-otp[web]'"
    raise ModuleNotFoundError(f"the HTTP front needs {needed}; run: {remedy}", name=needed) from error
