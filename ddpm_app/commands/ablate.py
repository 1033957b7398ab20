"""Train and measure DDPM's table 2 at small scale: what is predicted, times the objective."""

import argparse
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from ddpm_app.commands.report import result, writable_folder
from ddpm_app.commands.train import HELP, kind, shown, told_to_stop, tuples
from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.evaluation.ablation import CellReport, How, Judge, contact_sheet, measure_cell, new_judge
from ddpm_app.pictures import save_png
from ddpm_app.training import TrainingConfig
from ddpm_app.training.ablation import CELLS, SETTINGS, cell_config, train_cell
from ddpm_app.training.checkpoints import AGAIN, writing

SHEET = "ablation.png"
# what a cell says itself, what would not suit every cell, and what is given in other words
WITHHELD = ("prediction_type", "variance_type", "objective", "timestep_sampling", "min_snr_gamma")
OWN = ("data", "out", "held_out", "init_from", "guide", "guidance_scale", "guidance_from", "log_with")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data, what is measured, and every setting of a training run that all cells have alike."""
    parser.add_argument(
        "--data", default="shapes", help="pictures with classes: a parquet file, a folder, ..."
    )
    parser.add_argument("--held-out", default="", help="pictures whose bits/dim are measured, never learned")
    parser.add_argument("--out", required=True, help="the cells' folders go there; a second call resumes")
    parser.add_argument("--cells", nargs="+", default=[*CELLS], choices=[*CELLS], help="some of them")
    parser.add_argument("--num-samples", type=int, default=500, help="samples of each cell")
    parser.add_argument("--num-pictures", type=int, default=128, help="pictures whose bits/dim are measured")
    parser.add_argument("--num-terms", type=int, default=50, help="timesteps measured for each picture")
    parser.add_argument("--device", default="auto", help="of sampling: auto, cpu, mps, cuda")
    for field in fields(TrainingConfig):
        if field.name not in (*WITHHELD, *OWN):
            default = SETTINGS.get(field.name, field.default)
            text = HELP.get(field.name, "of every cell's training")
            parser.add_argument(
                "--" + field.name.replace("_", "-"), **{**kind(field), "default": default, "help": text}
            )


def run(options: argparse.Namespace) -> None:
    """Each cell in turn, trained and measured; then the table, and a sheet of samples in --out."""
    how = How(options.num_samples, options.num_pictures, options.num_terms, options.seed)
    for name in ("num_samples", "num_pictures", "num_terms"):
        if getattr(how, name) < 2:
            raise UserError(f"--{name.replace('_', '-')} must be at least 2; got {getattr(how, name)}")
    out = writable_folder(options.out)
    configs = {name: cell_config(CELLS[name], out, settings(options)) for name in options.cells}
    engine = Engine(options.device)
    judge = new_judge(next(iter(configs.values())), options.held_out, how)
    reports = []
    for name, config in configs.items():
        tell(name)
        with told_to_stop() as stopping:
            deque(shown(train_cell(config, stopping)), maxlen=0)
            stopped = stopping()
        if stopped:
            return result(options, "stopped; the same command resumes", {"out": options.out, "stopped": name})
        reports.append(measure_cell(engine, config, judge, how, tell))
    if any(report.quality for report in reports):
        drawn = contact_sheet(reports)
        with writing(out, AGAIN):
            save_png(drawn, out / SHEET)
    result(options, table(reports, judge, how), values(options, reports, judge, how))


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those of a TrainingConfig that all cells have alike."""
    alike = [field.name for field in fields(TrainingConfig) if field.name not in (*WITHHELD, *OWN)]
    return tuples({name: getattr(options, name) for name in ("data", *alike)})


def tell(sentence: str) -> None:
    """What is being done, at once."""
    print(sentence, flush=True)


def table(reports: Sequence[CellReport], judge: Judge, how: How) -> str:
    """The cells' rows beside the paper's, which are of CIFAR-10 and Inception's features."""
    head = f"{'predicts, learns from':<26}{'bits/dim':>18}{'FID*':>9}{'IS*':>8}{'peak':>8}    DDPM: IS    FID"
    real = judge.real
    terms = next((report.terms_measured for report in reports if report.terms_measured), how.num_terms)
    return "\n".join(
        [
            head,
            *(_row(report) for report in reports),
            f"{f'{real.num_images:,} real pictures':<26}{'':>18}{real.fid:>9.3f}{real.inception_score:>8.2f}",
            f"* of {how.num_samples} ancestral samples against {real.num_reference:,} pictures, features and "
            f"classes of {judge.classifier.name}",
            f"bits/dim of {len(judge.pictures)} pictures ({judge.about}), {terms} timesteps each",
            "peak: the highest training loss over its median, in the second half of the training",
            "DDPM: the paper's table 2, of CIFAR-10, which these figures cannot be held against one by one",
        ]
    )


def _row(report: CellReport) -> str:
    cell = CELLS[report.cell]
    words = f"{cell.words:<26}"
    if report.quality is None:
        words += f"{f'diverged at step {report.run.diverged_at:,}: the loss was no number':>43}"
    else:
        words += f"{f'{report.bits_per_dim:.3f} +- {report.standard_error:.3f}':>18}"
        words += f"{report.quality.fid:>9.3f}{report.quality.inception_score:>8.2f}{report.run.peak:>8.2f}"
    paper = "  unstable" if cell.fid is None else f"{cell.inception_score:>10.2f}{cell.fid:>7.2f}"
    return f"{words}  {paper}"


def values(
    options: argparse.Namespace, reports: Sequence[CellReport], judge: Judge, how: How
) -> dict[str, Any]:
    """What the table says and what it was measured with, for machines."""
    rows = []
    for report in reports:
        cell = CELLS[report.cell]
        told = asdict(report) | {"run": asdict(report.run) | {"folder": str(report.run.folder)}}
        rows.append(told | {"cell": asdict(cell)})  # whose score and distance are the paper's
    return {
        "out": options.out,
        "settings": settings(options),
        "measured": asdict(how) | {"classifier": judge.classifier.name, "pictures": judge.about},
        "real_pictures": asdict(judge.real),
        "rows": rows,
    }
