"""The HTTP front: health, metrics, a live view of the tree, and programs to be run; needs starlette and uvicorn."""

try:
    from foundation.http.app import application as application
    from foundation.http.door import PortTaken as PortTaken
    from foundation.http.front import Front as Front
except ModuleNotFoundError as error:
    if error.name not in ("prometheus_client", "starlette", "uvicorn"):
        raise
    remedy = "pip install 'foundation-otp[web]'"
    raise ModuleNotFoundError(f"the HTTP front needs {error.name}; run: {remedy}", name=error.name) from error
