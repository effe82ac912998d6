"""`snow serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.options import Flag
from snow.cli.output import note
from snow.distributed.replicas import Replicas, ServiceConfig
from snow.errors import SnowError
from snow.hub import Hub
from snow.serving.limits import Limits

RAY = "ray"

app = command("serve", "snow serve my-hub --port 8000")


@app.default
def serve_command(
    hub: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str | None, Parameter(env_var="SNOW_TOKEN", show_default=False)] = None,
    engine: str = "auto",
    device: str = "cpu",
    access_log: Flag = False,
    limits: Annotated[Limits | None, Parameter(name="*")] = None,
    replicas: Annotated[Replicas | None, Parameter(name="*")] = None,
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
        engine: what runs the hub: eager, folded, or auto for the fastest that is ready at once. On a CPU, onnx is
            faster, and int8, which computes the source in 8 bits, several times as fast where the processor has VNNI;
            both need seconds to start. Or ray for replicas of this service on a Ray cluster, RAY_ADDRESS or else one on
            this machine; ray:int8 says what runs each.
        device: cpu or cuda.
        access_log: write down every request.
    """
    where, _, inside = engine.partition(":")
    if where != RAY and replicas is not None:
        raise SnowError("replicas need --engine ray")
    if not 0 < port < 65536:
        raise SnowError(f"--port is between 1 and 65535, not {port}")
    try:
        from snow.process.threads import on_one_core
        from snow.serving.server import serve
        from snow.serving.service import Service
    except ImportError as error:
        raise _missing(error, "snow serve", "serve") from None
    on_one_core()
    opened = Hub.open(hub, engine=(inside or "auto") if where == RAY else engine)
    if where != RAY:
        serve(Service(opened, limits, device), host, port, token, access_log)
        return
    del opened  # it can be opened: the replicas do that themselves
    try:
        from snow.distributed.service import serve_on_ray
    except ImportError as error:
        raise _missing(error, "snow serve --engine ray", "ray") from None
    config = ServiceConfig(hub.resolve(), inside or "auto", device, limits or Limits(), token)
    serve_on_ray(config, replicas or Replicas(), host, port, access_log, note)


def _missing(error: ImportError, what: str, extra: str) -> Exception:
    if (error.name or "").partition(".")[0] == "snow":
        return error
    return SnowError(f"{what} needs {error.name}: pip install 'snow-cnn[{extra}]'")
