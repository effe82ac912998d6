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
from snow.serving.access import Address, check_token
from snow.serving.limits import Limits

RAY = "ray"

app = command("serve", "snow serve my-hub --port 8000")


@app.default
def serve_command(
    hub: Path,
    /,
    *,
    address: Annotated[Address | None, Parameter(name="*")] = None,
    token: Annotated[str | None, Parameter(env_var="SNOW_TOKEN", show_default=False)] = None,
    engine: str = "auto",
    device: str = "cpu",
    access_log: Flag = False,
    limits: Annotated[Limits | None, Parameter(name="*")] = None,
    replicas: Annotated[Replicas | None, Parameter(name="*")] = None,
) -> None:
    """Serve a hub over HTTP, with a page at / and the API description at /openapi.json.

    Tasks that are added to, replaced in or removed from the hub's folder are picked up automatically. On SIGTERM or
    Ctrl-C the service answers the accepted requests, then exits.

    Args:
        hub: folder of the hub.
        token: bearer token that allows changing tasks over HTTP; without one, tasks cannot be changed. Use 16
            characters or more, in the environment variable SNOW_TOKEN: it does not show in the process list.
        engine: inference engine: auto, compiled, stacked, folded or eager; auto chooses the fastest. On a CPU, onnx is
            faster, and int8, which runs the source in 8 bits, is several times faster if the processor has VNNI; both
            take seconds to start. ray runs replicas of the service on the Ray cluster at RAY_ADDRESS, or on one started
            on this machine; ray:int8 sets the engine of each replica.
        device: cpu or cuda.
        access_log: log every request.
    """
    launcher, _, inner_engine = engine.partition(":")
    if launcher != RAY and replicas is not None:
        raise SnowError("options of replicas need --engine ray")
    address = address or Address()
    check_token(token, address.host)
    try:
        from snow.process.startup import share_arenas
        from snow.process.threads import on_one_core
        from snow.serving.decoders import fork_server
        from snow.serving.server import serve
        from snow.serving.service import Service
    except ImportError as error:
        raise _missing(error, "snow serve", "serve") from None
    on_one_core()
    if launcher != RAY:
        share_arenas()
        fork_server().start()  # its imports take as long as opening the hub
    opened = Hub.open(hub, engine=(inner_engine or "auto") if launcher == RAY else engine)
    if launcher != RAY:
        serve(Service(opened, limits, device), address, token, access_log)
        return
    del opened  # opened to check it: each replica opens its own
    try:
        from snow.distributed.service import serve_on_ray
    except ImportError as error:
        raise _missing(error, "snow serve --engine ray", "ray") from None
    config = ServiceConfig(hub.resolve(), inner_engine or "auto", device, limits or Limits(), address, token)
    serve_on_ray(config, replicas or Replicas(), access_log, note)


def _missing(error: ImportError, command_line: str, extra: str) -> Exception:
    if (error.name or "").partition(".")[0] == "snow":
        return error
    return SnowError(f"{command_line} needs {error.name}: pip install 'snow-cnn[{extra}]'")
