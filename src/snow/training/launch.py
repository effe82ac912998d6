"""Start the processes of a run: this one, several new ones, or those that a launcher such as torchrun has started."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from snow.errors import SnowError
from snow.process.devices import check_device_name, find_device
from snow.process.interrupt import Interrupt, Interrupted

if TYPE_CHECKING:
    from lightning_fabric import Fabric


_CHILD = "SNOW_CHILD_PROCESS"
_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def computes_in_bf16(device: str) -> bool:
    """Whether the hardware multiplies in bf16 rather than emulating it. `device`: "cpu", "cuda", …"""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return False


def is_launched() -> bool:
    """Whether this process is one of several that torchrun, or `spawn` below, has started."""
    return is_child() or _is_torchrun()


def is_first() -> bool:
    """Whether this process writes and prints; False in all but one of those that torchrun, or `spawn`, has started."""
    return not is_launched() or os.environ["RANK"] == "0"


def is_child() -> bool:
    """Whether `spawn` below has started this process."""
    return _CHILD in os.environ


def _is_torchrun() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def open_fabric(precision: str = "auto", accelerator: str = "auto", devices: int = 1) -> Fabric:
    """Return a launched Fabric for this process.

    Args:
        precision: as in `Recipe`; with "int8", the learners compute as with "auto".
        accelerator: "auto", "cpu", "cuda", "cuda:1" or "mps".
        devices: processes on this machine; read from the environment if a launcher started this process.

    Raises:
        SnowError: there is no such accelerator, or it does not have this precision.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    check_device_name(accelerator)
    if precision == "int8" and accelerator not in ("auto", "cpu"):
        raise SnowError("precision int8 is for CPUs: use bf16 or 16 on a GPU")
    device = find_device("cpu" if precision == "int8" else accelerator)
    accelerator = device.type
    if precision in ("auto", "int8"):
        precision = "bf16" if computes_in_bf16(accelerator) else "32"
    if precision == "16" and accelerator == "cpu":
        raise SnowError("precision 16 needs a GPU: use 32 or bf16 on a CPU")
    if accelerator == "cpu":
        # lightning-fabric sets it, and torch's optimizers then look for a GPU driver at every step, which takes 0.5 ms
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    nodes, strategy = 1, "auto"
    if is_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        if device.index is not None:
            raise SnowError(f"{device} is one device, and this run has {devices} on this machine: leave out its number")
        nodes, strategy = int(os.environ["WORLD_SIZE"]) // devices, "ddp"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices if device.index is None else [device.index],
            num_nodes=nodes,
            strategy=strategy,
            precision=_PRECISIONS[precision],
            plugins=None if _is_torchrun() else [LightningEnvironment()],
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise SnowError(f"cannot use {devices} {accelerator} device(s): {error}") from None
    fabric.launch()
    return fabric


def arithmetic(precision: str, fabric: Fabric) -> str:
    """Return what a run computes in: the learners' precision, after that of the source if it is int8."""
    learning = fabric.strategy.precision.precision
    return f"int8, {learning}" if precision == "int8" else learning


def spawn(function: Callable[..., Any], arguments: Sequence[Any], processes: int) -> Any:
    """Run `function(*arguments)` in new processes that know each other, and return the result of the first one.

    The processes are spawned, not forked, so this works from a script (below `if __name__ == "__main__":`), a notebook
    and a command. SIGINT and SIGTERM are passed on to them.

    Raises:
        SnowError: a process raised it, or the arguments cannot be pickled.
        Interrupted: the processes raised it.
        RuntimeError: a process died. The notes of the error have the traceback of the process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SnowError('to train on several devices, put your script\'s code below if __name__ == "__main__":')
    with tempfile.TemporaryDirectory(prefix="snow-") as name:
        folder = Path(name)
        try:
            (folder / "call").write_bytes(pickle.dumps((function, tuple(arguments))))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SnowError(
                f"cannot hand this run to other processes ({error}): define its classes and functions in a module, "
                "or train on one device"
            ) from None
        port = _free_port()
        context = multiprocessing.get_context("spawn")
        children = [context.Process(target=_child, args=(name, rank, processes, port)) for rank in range(processes)]
        with Interrupt() as interrupt:
            for child in children:
                child.start()
            try:
                _supervise(children, interrupt)
            finally:
                for child in children:
                    child.kill()
                    child.join()
        errors: list[Exception] = [pickle.loads(path.read_bytes()) for path in sorted(folder.glob("error-*"))]
        if errors:
            raise errors[0]
        if (folder / "result").exists():
            return pickle.loads((folder / "result").read_bytes())
        if interrupt.signal is not None:
            raise Interrupted("stopped before there was a step to finish", interrupt.signal)
        codes = ", ".join(str(child.exitcode) for child in children)
        raise _death(codes, [path.read_text("utf-8") for path in sorted(folder.glob("traceback-*"))])


def _supervise(children: Sequence[BaseProcess], interrupt: Interrupt) -> None:
    """Wait until all have ended. When one fails, the others, which may wait for it, get ten seconds to end."""
    notified = False
    patience = 50
    while alive := [child for child in children if child.is_alive()]:
        wait([child.sentinel for child in alive], timeout=0.2)
        if interrupt.requested and not notified:
            notified = True
            for child in alive:
                child.terminate()
        if any(child.exitcode for child in children):
            patience -= 1
            if not patience:
                return


def _child(name: str, rank: int, processes: int, port: int) -> None:
    os.environ.update(
        {
            _CHILD: "1",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "NODE_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    )
    if "OMP_NUM_THREADS" not in os.environ:  # more threads than cores would slow every process down
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    folder = Path(name)
    with Interrupt(child=True):
        try:
            function, arguments = pickle.loads((folder / "call").read_bytes())
            result = function(*arguments)
            if rank == 0:
                (folder / "result").write_bytes(pickle.dumps(result))
        except (SnowError, Interrupted) as error:
            (folder / f"error-{rank}").write_bytes(pickle.dumps(error))
            sys.exit(1)
        except BaseException:
            text = traceback.format_exc()
            (folder / f"traceback-{rank}").write_text(text, "utf-8", "backslashreplace")
            sys.exit(1)


def _death(codes: str, tracebacks: Sequence[str]) -> RuntimeError:
    """Make the error of processes that died, with the tracebacks that they left."""
    reason = f": {tracebacks[0].strip().splitlines()[-1]}" if tracebacks else ", perhaps for lack of memory"
    error = RuntimeError(f"a training process died (exit codes {codes}){reason}")
    for text in tracebacks:
        error.add_note(text)
    return error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
