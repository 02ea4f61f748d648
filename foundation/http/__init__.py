"""The HTTP front: health, metrics, a live view of the tree, and programs to be run; needs starlette and uvicorn."""

try:
    import prometheus_client as _prometheus
    import starlette as _starlette
    import uvicorn as _uvicorn
except ModuleNotFoundError as error:
    remedy = "pip install 'foundation-otp[web]'"
    missing = ModuleNotFoundError(f"the HTTP front needs {error.name}; run: {remedy}", name=error.name)
    raise missing from error

from foundation.http.app import application as application
from foundation.http.door import PortTaken as PortTaken
from foundation.http.front import Front as Front
