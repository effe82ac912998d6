"""One thread computes on all cores, the others on one."""

from __future__ import annotations

import threading

import torch

from snow.process.threads import engine_executor, on_all_cores, on_one_core, worker_executor


def test_passes_have_all_cores_and_others_one() -> None:
    before = torch.get_num_threads()
    on_all_cores()
    cores = torch.get_num_threads()
    try:
        with engine_executor() as engine, worker_executor("decoding", 2) as decoders:
            assert decoders.submit(torch.get_num_threads).result() == 1
            assert engine.submit(torch.get_num_threads).result() == cores
            assert decoders.submit(torch.get_num_threads).result() == 1
            assert engine.submit(torch.get_num_threads).result() == cores
            name = engine.submit(lambda: threading.current_thread().name).result()
            assert name.startswith("snow-engine")
        on_one_core()
        assert torch.get_num_threads() == 1
        on_all_cores()
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
