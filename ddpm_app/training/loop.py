"""The training loop (algorithm 1 of the DDPM paper): steps, saves and reports, until done or stopped."""

__all__ = ["train"]

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from ddpm_app.training.checkpoints import forget, sweep
from ddpm_app.training.config import TrainingConfig
from ddpm_app.training.machine import alone_in
from ddpm_app.training.reports import Progress, begin_log, log
from ddpm_app.training.sources import refuse_within
from ddpm_app.training.trainer import Trainer, learning_rate


def train(
    config: TrainingConfig,
    *,
    resume: bool = True,
    report_every: int = 50,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Trains and saves into `config.out`, yielding Progress; an interrupted run resumes from its last save.

    It ends early, saved, once `stopping` says so. Only the main process reports and writes. Raises UserError
    when the data cannot be read, a step does not fit in memory, nothing can be written, or the loss is no
    longer a number; the last save is on disk then.
    """
    for flag, source in (("--data", config.data), ("--held-out", config.held_out)):
        refuse_within(source, Path(config.out), flag)
    with alone_in(Path(config.out)):
        yield from _steps(Trainer(config, resume), resume, report_every, stopping)


def _steps(run: Trainer, resume: bool, report_every: int, stopping: Callable[[], bool]) -> Iterator[Progress]:
    """The steps that are left of the run, with its saves and its reports."""
    config = run.config
    out, started, since, losses = Path(config.out), time.perf_counter(), time.perf_counter(), []
    before = run.state.seconds
    if run.main:
        sweep(out)
        begin_log(out, run.state.step)
        if not resume:  # or a run killed before its first save would go on as the one before it
            forget(out)
    while run.state.step < config.num_steps:
        losses.append(run.advance())
        step = run.state.step
        run.state.seconds = before + time.perf_counter() - started
        stopped = run.anywhere(stopping())
        ended = stopped or step == config.num_steps
        sampling = step % config.sample_every == 0 or ended
        mean = sum(losses) / len(losses)
        if sampling:
            run.look()
        if step % config.save_every == 0 or sampling:
            run.save(mean)
        if step % report_every == 0 or sampling:
            rate = len(losses) / (time.perf_counter() - since)
            at = Progress(
                step,
                config.num_steps,
                loss=mean,
                learning_rate=learning_rate(config, step - 1),
                images_per_second=rate * config.batch_size,
                seconds_left=(config.num_steps - step) / rate,
                held_out_loss=run.state.held_out_loss if sampling else None,
            )
            if run.main:
                log(out, at)
                told = {k: v for k, v in asdict(at).items() if k != "step" and v is not None}
                run.accelerator.log(told, step=step)
                yield at
            since, losses = time.perf_counter(), []
        if stopped:
            break
    run.accelerator.end_training()
