"""One process of a run, from top to bottom: prepare, calibrate, loop, finish."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from snow.inference.features import LiveFeatures
from snow.inference.onnx_backend import source_for_precision
from snow.kinds import LabelKind, ThresholdTarget
from snow.methods import Method
from snow.methods.low_bit import FULL_BITS, round_weights
from snow.process.interrupt import Interrupt
from snow.process.randomness import seed_all
from snow.training.calibration import calibrate_learners
from snow.training.checkpoint import Checkpointer
from snow.training.evaluate import collect_evidence, evaluate_batches
from snow.training.feature_cache import open_cache
from snow.training.history import Fitted, HeldOut, RunInfo
from snow.training.job import TrainingJob
from snow.training.launch import arithmetic, is_child
from snow.training.learner import Learner
from snow.training.listeners import Listener
from snow.training.loop import TrainingLoop
from snow.training.process_group import ProcessGroup
from snow.training.state import Calibrated, Prepared, RunState
from snow.training.training_data import TrainingData

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Trainer:
    """Trains the learners of a job in this process.

    Args:
        job: what to train.
        fabric: launched; its processes share every batch.
        listeners: called in the first process.
    """

    def __init__(self, job: TrainingJob, fabric: Fabric, listeners: Sequence[Listener] = ()) -> None:
        self.job, self.fabric = job, fabric
        self.listeners = listeners if fabric.is_global_zero else ()

    def train(self) -> Fitted:
        """Run the four acts."""
        prepared = self.prepare()
        calibrated = self.calibrate(prepared)
        state = self.loop(prepared, calibrated)
        return replace(self.finish(prepared, state), calibration_seconds=calibrated.seconds)

    def prepare(self) -> Prepared:
        """Open the data, move source and learners to the device, and read the checkpoint of a stopped run."""
        job, fabric = self.job, self.fabric
        group, interrupt = ProcessGroup(fabric), Interrupt(child=is_child())
        data = TrainingData(job, group, fabric.device)
        for module in (job.source, *job.learners.values()):
            fabric.to_device(module)
        source = source_for_precision(job.source, job.recipe.precision) if job.uses_source else job.source
        checkpointer = Checkpointer(job, arithmetic(job.recipe.precision, fabric), group)
        return Prepared(job, fabric, group, data, source, interrupt, checkpointer, checkpointer.load())

    def calibrate(self, prepared: Prepared) -> Calibrated:
        """Show each learner its calibration pictures, or load the state of the stopped run; then open the cache."""
        job, data, group = self.job, prepared.data, prepared.group
        started = time.monotonic()
        if prepared.saved is None:
            seed_all(job.recipe.seed)
            if not job.warm_start:
                calibrate_learners(prepared.source, data, job, self.fabric)
            group.align(job.learners.values())
            seed_all(job.recipe.seed, group.rank)  # the processes draw different noise
        else:
            for name, method in job.learners.items():
                if (layout := prepared.saved["learners"][name].get("layout")) is not None:
                    method.set_layout(layout)
        if job.freezes_selection:
            for method in job.learners.values():
                method.freeze_selection()
        state = RunState(
            [
                Learner(name, method, data.learned_labels[name], job.recipe, self.fabric, job.guards_starts)
                for name, method in job.learners.items()
            ]
        )
        if prepared.saved is None:
            state.record_selection(0)
            for learner in state.learners:
                learner.stopped = learner.guard is not None and data.judged_by(learner.name) is None  # keeps its start
        else:
            state.load_state_dict(prepared.saved)
            group.set_random_states(prepared.saved["random"])
        seconds = time.monotonic() - started
        return Calibrated(state, open_cache(job, prepared.source, data, self.fabric) if job.cached else None, seconds)

    def loop(self, prepared: Prepared, calibrated: Calibrated) -> RunState:
        """Train to the last epoch, or until every learner has stopped early."""
        with ExitStack() as stack:
            for listener in self.listeners:
                stack.callback(listener.on_end)
                listener.on_start(self._info(prepared, calibrated))
            return TrainingLoop(prepared, calibrated, self.listeners).run()

    def finish(self, prepared: Prepared, state: RunState) -> Fitted:
        """Keep the best, averaged or last weights of each learner, and measure them on the test pictures.

        That is in single precision, in which tasks answer, unless the source has 8 bits: an engine serves that one.
        """
        data, learners = prepared.data, state.learners
        for learner in learners:
            learner.finish()
        methods = {learner.name: learner.method for learner in learners}
        if self.job.recipe.weight_bits < FULL_BITS:
            for method in methods.values():
                round_weights(method, self.job.source, self.job.recipe.weight_bits)
        evidence = {name: method.evidence for name, method in methods.items()}
        for learner in learners:
            if learner.guard is not None:
                evidence[learner.name] = {**evidence[learner.name], "training": learner.guard.evidence}
        held_out = {learner.name: _held_out(learner, data) for learner in learners}
        kinds = self._tuned(prepared, methods)
        labels = {name: replace(data.labels[name], kind=kind) for name, kind in kinds.items()}
        test, is_int8 = LiveFeatures(prepared.source, data.test()), self.job.recipe.precision == "int8"
        metrics = evaluate_batches(methods, labels, test, self.fabric, autocast=is_int8)
        selections = {learner.name: learner.recorder.history(data.sampler.batches) for learner in learners}
        return Fitted(
            methods,
            tuple(state.history),
            {name: measured for name, measured in metrics.items() if measured.images},
            {name: selection for name, selection in selections.items() if selection is not None},
            prepared.group.is_first,
            kinds,
            {name: values for name, values in evidence.items() if values},
            held_out={name: answers for name, answers in held_out.items() if answers is not None},
        )

    def _tuned(self, prepared: Prepared, methods: Mapping[str, Method]) -> dict[str, LabelKind]:
        """Let held-out pictures decide what the kinds of labels leave open, such as thresholds of tags."""
        data = prepared.data
        kinds = {name: data.labels[name].kind for name in methods}
        tunable = {name: method for name, method in methods.items() if kinds[name].tunable}
        held_out = data.validation() if tunable else None
        if held_out is None:
            return kinds
        features, is_int8 = LiveFeatures(prepared.source, held_out), self.job.recipe.precision == "int8"
        evidence = collect_evidence(tunable, data.labels, features, self.fabric, autocast=is_int8)
        target = ThresholdTarget.parse(self.job.recipe.thresholds)
        return {**kinds, **{name: kinds[name].tuned(values, target) for name, values in evidence.items()}}

    def _info(self, prepared: Prepared, calibrated: Calibrated) -> RunInfo:
        state, cache = calibrated.state, calibrated.cache
        batches = prepared.data.sampler.batches
        return RunInfo(
            learners=tuple(self.job.learners),
            epochs=self.job.recipe.epochs,
            batches=batches,
            recipe=self.job.recipe.to_dict(),
            first_step=state.epoch * batches + state.batch,
            history=tuple(state.history),
            notes=() if cache is None else (cache.note,),
            kinds={name: labels.kind.name for name, labels in prepared.data.labels.items()},
        )


def _held_out(learner: Learner, data: TrainingData) -> HeldOut | None:
    """Return what the kept state of a learner of classes answers for the pictures that judge it, if any do."""
    answers = None if learner.guard is None or learner.labels.table is not None else learner.guard.answers
    if answers is None:
        return None
    return HeldOut(data.judges_of(learner.name), *(values.cpu() for values in answers))
