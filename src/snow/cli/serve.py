"""`snow serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.options import Flag
from snow.errors import SnowError
from snow.hub import Hub
from snow.serving.limits import Limits

app = command("serve", "snow serve my-hub --port 8000")


@app.default
def serve_command(
    hub: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str | None, Parameter(env_var="SNOW_TOKEN", show_default=False)] = None,
    device: str = "cpu",
    access_log: Flag = False,
    limits: Annotated[Limits | None, Parameter(name="*")] = None,
) -> None:
    """Answer over HTTP, with a page at / and a description of the interface at /openapi.json.

    Tasks that are put into the hub's folder, replaced or removed there appear and go by themselves. SIGTERM and Ctrl-C
    end it when all that was accepted is answered.

    Args:
        hub: its folder.
        host: address to listen on; by default only this machine can connect.
        port: to listen on.
        token: with which tasks may be changed over HTTP; without one they may not. SNOW_TOKEN in the environment does
            not show in the list of processes.
        device: cpu or cuda.
        access_log: write down every request.
    """
    try:
        from snow.serving.server import serve
        from snow.serving.service import Service
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "snow":
            raise
        raise SnowError(f"snow serve needs {error.name}: pip install 'snow-cnn[serve]'") from None
    if not 0 < port < 65536:
        raise SnowError(f"--port is between 1 and 65535, not {port}")
    serve(Service(Hub.open(hub), limits, device), host, port, token, access_log)
