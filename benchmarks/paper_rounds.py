"""Times one round of each of the paper's full-size cells, and estimates the time of the whole table.

Usage: python -m benchmarks.paper_rounds [--config configs/paper/full.yaml] [--share S] [--data NAME ...]

The time of a round depends on the sizes of the data, not on what they show. So the arrays and sentences are random, of
the sizes of the six data sets; partition, network, widths, batches and optimizer are those of the cell. A round is
everybody's training by the sandwich rule in one process, the average, and the measurement of all widths; training alone
before, and the payment after, are not in it. Nothing is concluded from the accuracies, and no number of rounds is
multiplied: the cells themselves have not been run.
"""

import argparse
import contextlib
import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.engine.processes.machine import describe_machine
from aequa_lightning.sweep.matrix import Cell, Matrix, merge

# Samples for training and test, the shape of one, the number of classes.
IMAGES = {
    "mnist": (60_000, 10_000, (28, 28), 10),
    "fashion-mnist": (60_000, 10_000, (28, 28), 10),
    "svhn": (73_257, 26_032, (32, 32, 3), 10),
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
}
# Sentences for training and test, words of one, words in all, classes.
SENTENCES = {"sst5": (8_544, 2_210, 19, 16_000, 5)}


def write_images(name: str, folder: Path, share: float) -> dict[str, Any]:
    """Write random images of a data set's size; return the block of a configuration that reads them."""
    train, test, shape, classes = IMAGES[name]
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", int(share * train)), ("test", int(share * test))):
        arrays[f"x_{part}"] = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % classes
    np.savez(folder / f"{name}.npz", **arrays)
    return {"class_path": "NpzData", "init_args": {"path": str(folder / f"{name}.npz")}}


def write_sentences(name: str, folder: Path, share: float) -> dict[str, Any]:
    """Write random sentences of a data set's size; return the block of a configuration that reads them."""
    train, test, length, words, classes = SENTENCES[name]
    draw = np.random.default_rng(0)
    for part, count in (("train", int(share * train)), ("test", int(share * test))):
        tokens = draw.integers(0, words, (count, length))
        lines = [f"{row % classes} " + " ".join(f"w{token}" for token in tokens[row]) for row in range(count)]
        (folder / f"stsa.fine.{part}").write_text("\n".join(lines) + "\n")
    return {"class_path": "SST5Data", "init_args": {"root": str(folder)}}


def configuration(matrix: Matrix, cell: Cell, data: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a cell with other data, one round, nobody alone, nobody paid for it."""
    content = matrix.configuration(cell)
    content["data"]["init_args"].pop("root")
    content["data"] = {
        "class_path": data["class_path"],
        "init_args": {**content["data"]["init_args"], **data["init_args"]},
    }
    mechanism = {"class_path": "SharedModel", "init_args": {"contribution": "data_share"}}
    lean = {"max_rounds": 1, "standalone": False, "mechanism": mechanism, "run_dir": str(matrix.run_folder(cell))}
    return merge(content, {"trainer": lean})


def seconds_of_a_round(content: dict[str, Any]) -> float:
    """Run one round and return its seconds."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cli = AequaCLI({"fit": content}, execute=False)
        cli.before_fit()
        cli.trainer.fit(cli.model, cli.datamodule)
    with (Path(content["trainer"]["run_dir"]) / "metrics.csv").open() as file:
        return float(next(csv.DictReader(file))["seconds"])


def main(config: Path, share: float, data: list[str]) -> None:
    """Time a round of every cell and print a row for each data set."""
    torch.set_num_threads(1)
    sweep = yaml.safe_load(config.read_text())
    partitions = list(sweep["axes"]["partition"])
    print(", ".join(f"{key} {value}" for key, value in describe_machine(torch.device("cpu")).items()))
    print(f"{'seconds of a round':20}", *(f"{name:>17}" for name in partitions), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        axes = {axis: values for axis, values in sweep["axes"].items() if axis != "seed"}
        matrix = Matrix(Path(folder), sweep["base"], axes, [0], sweep["adjust"])
        for name in data:
            write = write_images if name in IMAGES else write_sentences
            block = write(name, Path(folder), share)
            print(f"{name:20}", end="", flush=True)
            for partition in partitions:
                [cell] = matrix.select({"data": name, "partition": partition, "mechanism": "aequa"})
                print(f" {seconds_of_a_round(configuration(matrix, cell, block)):17.1f}", end="", flush=True)
            print(flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/paper/full.yaml"))
    parser.add_argument("--share", type=float, default=1.0, help="of the data sets' sizes, to try it")
    parser.add_argument("--data", nargs="+", default=[*IMAGES, *SENTENCES], choices=[*IMAGES, *SENTENCES])
    main(**vars(parser.parse_args()))
