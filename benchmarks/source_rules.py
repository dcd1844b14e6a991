"""Runs the rules of rivals as they stand in checkouts of their authors' repositories, on planted updates.

Nothing of that code is in this repository. A script's loop, or the classes and functions of a module, are read from the
checkout and run with everything around them replaced: training adds a planted update, and evaluation is a plain forward
pass over the validation samples.
"""

import collections
import contextlib
import copy
import io
import itertools
import types
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.source_case import (
    CPU,
    Case,
    LenientTorch,
    Net,
    Training,
    common,
    definitions,
    evaluated,
    excerpt,
    perfs,
    vector,
)


def cgsv(folder: Path, case: Case, *, beta: float, length: float) -> list[Tensor]:
    path = folder / "Gradient-Driven-Rewards-to-Guarantee-Fairness-in-Collaborative-Machine-Learning"
    names, training, count = definitions(path / "utils" / "utils.py", common()), Training(case), case.participants
    for name in ("dist_all_layer", "dist_last_layer", "reward_all_layer", "reward_last_layer"):
        names[name] = collections.defaultdict(list)
    names |= perfs() | {
        "args": {"iterations": len(case.planted), "Gamma": length, "alpha": 0.95, "beta": beta},
        "N": count, "E": 1, "agent_models": [case.net() for _ in range(count)], "server_model": case.net(),
        "agent_optimizers": [None] * count, "agent_schedulers": [None] * count, "train_loaders": range(count),
        "loss_fn": None, "test_loader": None, "init_backup": case.net(), "rs": torch.zeros(count), "past_phis": [],
        "rs_dict": [], "qs_dict": [], "shard_sizes": torch.tensor(case.samples).float(),
        "train_model": training, "evaluate": evaluated,
    }  # fmt: skip
    excerpt(path / "main.py", "# ---- CML/FL begins", "# Saving results", names)
    return training.delivered(names["agent_models"])


def rffl(folder: Path, case: Case, *, length: float) -> list[Tensor]:
    path = folder / "Robust-and-Fair-Federated-Learning"
    names, training, count = definitions(path / "utils" / "utils.py", common()), Training(case), case.participants
    shards = torch.tensor(case.samples).float()
    names |= perfs() | {
        "args": {"rounds": len(case.planted), "Gamma": length, "alpha": 0.95}, "N": count, "A": 0, "E": 1, "atk": None,
        "participant_models": [case.net() for _ in range(count)], "participant_optimizers": [None] * count,
        "participant_schedulers": [None] * count, "train_loaders": range(count), "server_model": case.net(),
        "loss_fn": None, "valid_loader": None, "rs": torch.zeros(count), "past_phis": [], "rs_dict": [], "qs_dict": [],
        "r_threshold": [], "R_set": list(range(count)), "threshold": 1 / 3, "shard_sizes": shards,
        "relative_shard_sizes": shards / shards.sum(), "use_reputation": True, "use_sparsify": True,
        "train_model": training, "evaluate": evaluated,
    }  # fmt: skip
    excerpt(path / "RFFL_run.py", "# ---- FL begins", "# ---- Results saving", names)
    return training.delivered(names["participant_models"])


def cffl(folder: Path, case: Case, *, clip: float, aggregate: str) -> list[Tensor]:
    path = folder / "CollaborativeFairFederatedLearning" / "pytorch" / "utils"
    names = definitions(path / "utils.py", common()) | {"time": types.SimpleNamespace(time=lambda: 0.0), "json": None}
    learner_of = definitions(path / "Federated_Learner.py", names)["Federated_Learner"]
    count, training = case.participants, Training(case)

    class Participant(types.SimpleNamespace):
        def train(self, epochs: int, is_pretrain: bool = False, save_gpu: bool = False) -> None:
            if not is_pretrain:
                training(self.model)

    kinds = ("model", "model_pretrain", "dssgd_model", "fedavg_model")
    learner = learner_of.__new__(learner_of)
    learner.__dict__ |= {
        "args": {
            "theta": 1, "grad_clip": clip, "largest_criterion": "all", "aggregate_mode": aggregate, "split": "powerlaw",
            "fl_epochs": len(case.planted), "fl_individual_epochs": 1, "pretrain_epochs": 0, "device": CPU, "alpha": 5,
            "alpha_decay": True,
        },
        "device": CPU, "save_gpu": False, "n_participants": count, "valid_loader": [case.validation],
        "test_loader": [case.validation], "shard_sizes": torch.tensor(case.samples).float(),
        "federated_model": case.net(), "federated_model_pretrain": case.net(),
        "participants": [
            Participant(theta=1, param_count=len(case.start), **{kind: case.net() for kind in kinds})
            for _ in range(count)
        ],
        "performance_dict": collections.defaultdict(list), "performance_dict_pretrain": collections.defaultdict(list),
        "time_dict": {}, "clock": lambda key: None, "performance_summary": lambda **options: None,
        "convert_tensors_in_dicts": lambda: None, "evaluate_participants_performance": lambda *words, **options: [],
    }  # fmt: skip
    names["json"] = types.SimpleNamespace(dumps=str)
    learner.train()
    return training.delivered([participant.model for participant in learner.participants])


def fedave(folder: Path, case: Case, *, beta: float, length: float) -> list[Tensor]:
    names = definitions(folder / "FedAVE" / "utils" / "fmodule.py", common() | {"random": None})
    names |= {"BasicServer": object, "BasicClient": object}
    server_of = definitions(folder / "FedAVE" / "algorithm" / "FedAVE.py", names)["Server"]
    count, training = case.participants, Training(case)
    server = server_of.__new__(server_of)

    def losses(models: Sequence[Net], which: str) -> list[list[float]]:
        number = len(training.started) // count + 1
        series = [case.losses(vector(net), number, index) for index, net in enumerate(models)]
        return [one[0 if which == "train" else 1] for one in series]

    server.__dict__ |= {
        "reputation": [0] * count, "alpha_reputation": 0.95, "model": [case.net() for _ in range(count)],
        "Gamma": length, "Beta": beta, "contributions": [], "vol_data_clients": [0] * count, "num_clients": count,
        "clients": [types.SimpleNamespace(train_data=torch.zeros(samples)) for samples in case.samples],
        "client_vols": case.samples, "data_vol": sum(case.samples), "KL_test": losses,
        "communicate": lambda chosen: ([training(copy.deepcopy(net)) for net in server.model], None),
        "validation_": lambda models: ([case.accuracy(net) for net in models], None),
    }  # fmt: skip
    # Lengths of data are divided as tensors there.
    names["torch"] = LenientTorch()
    for number in range(len(case.planted)):
        server.iterate(number)
    return training.delivered(server.model)


def shapfed(folder: Path, case: Case) -> list[Tensor]:
    path, training, count = folder / "shapfed" / "main_cifar10.py", Training(case), case.participants
    names = common() | {
        "combinations": itertools.combinations, "resnet34_model": case.net, "use_wandb": False,
        "use_tensorboard": False, "aggregation": 2, "model_num": count, "test_data_loader": [None] * (count + 1),
        "tqdm": lambda items, **options: items,
        "config": types.SimpleNamespace(num_rounds=len(case.planted), num_lepochs=1),
        "optim": torch.optim,
    }  # fmt: skip
    definitions(path, names)
    client_of, server_of = names["Client"], names["Server"]

    def train(client: Any, epochs: int) -> None:
        before = client.get_weights()
        training(client.model)
        client.compute_full_grad(before, client.get_weights())

    client_of.train, server_of.evaluate = train, lambda server, data: (0.0, 0.0)
    names["classwise_accuracy"] = lambda net, data: np.zeros(10)
    names["clients"] = [client_of(None, index) for index in range(count)]
    names["server"] = server_of(names["clients"])
    excerpt(path, "weights = [1 / model_num]", None, names)
    return training.delivered([client.model for client in names["clients"]])


def _iafl_script(folder: Path, case: Case, script: str, **more: Any) -> list[Tensor]:
    path, training, count = folder / "Incentive-Aware-FL", Training(case), case.participants
    names = definitions(path / "utils" / "utils.py", common() | {"os": None, "time": None})
    rate = types.SimpleNamespace(get_last_lr=lambda: [1.0], step=lambda: None)
    gamma = torch.tensor(case.samples).float()
    names |= perfs() | {
        "args": {
            "iterations": len(case.planted), "q": 0.5, "join_rate": np.ones(count), "kappa": 0.0, "local_epochs": 1,
            "optimizer_fn": lambda *words, **options: None, "loss_fn": None,
        },
        "n_clients": count, "agent_models": [case.net() for _ in range(count)], "agent_schedulers": [rate] * count,
        "train_loaders": range(count), "server_model": case.net(), "join_indicators": [], "loss_fn": None,
        "test_loader": None, "reward_weights_gamma": gamma / gamma.max(), "tqdm": _Bar,
        "train_model": lambda *words, **options: (training(*words), 0.0),
        "evaluate": lambda net, *words, **options: (torch.tensor(0.0), torch.tensor(case.accuracy(net))),
    } | more  # fmt: skip
    excerpt(path / script, "# ========== FL training", "mkdirs(", names)
    return training.delivered(names["agent_models"])


class _Bar(list[int]):
    """Stands for a progress bar."""

    def __init__(self, items: Sequence[int], **options: Any) -> None:
        super().__init__(items)

    def set_description(self, text: str) -> None: ...


def iafl(folder: Path, case: Case) -> list[Tensor]:
    """Draws what was drawn here."""
    count, nobody = case.participants, np.zeros(case.participants, dtype=bool)
    # Resets come before a round there, after it here, and never after the last.
    resets: Iterator[np.ndarray] = iter([nobody, *(reset for _, reset in case.draws)])

    def chances() -> Iterator[float]:
        while True:
            yield from (0.0 if reset else 1.0 for reset in next(resets))
            yield from [0.0] * count  # everybody joins

    chosen = iter(list(range(count)) * len(case.planted))
    places = iter(np.repeat(np.arange(len(case.planted)), count).tolist())

    def choice(others: Any, size: int, replace: bool) -> np.ndarray:
        index = next(chosen)
        drawn = np.setdiff1d(np.flatnonzero(case.draws[next(places)][0][index]), [index])
        if len(drawn) != size:
            raise AssertionError(f"{len(drawn)} others were drawn here, {size} by the source's rule")
        return drawn

    supply = chances()
    numpy = types.SimpleNamespace(random=types.SimpleNamespace(rand=lambda: next(supply), choice=choice))
    return _iafl_script(folder, case, "main_IAFL.py", np=numpy)


def rank(folder: Path, case: Case) -> list[Tensor]:
    """Keeps the order of equal accuracies, which NumPy leaves open."""
    numpy = types.SimpleNamespace(random=np.random, argsort=partial(np.argsort, kind="stable"))
    return _iafl_script(folder, case, "main_rank.py", np=numpy)


def lg_fedavg(folder: Path, case: Case, *, shared: Sequence[str]) -> list[Tensor]:
    return _iafl_script(folder, case, "main_lgfedavg.py", shared_layers=shared)


def fedrac(folder: Path, case: Case, *, beta: float) -> list[Tensor]:
    """Returns sub-models; they have 200 neurons in each of two hidden layers there, and ten participants."""
    count = case.participants
    module = types.SimpleNamespace(
        _model_to_tensor=vector,
        _model_from_tensor=lambda values, kind: case.net().of(values),
        _model_sum=lambda nets: case.net().of(torch.stack([vector(net) for net in nets]).sum(dim=0)),
        _modeldict_cp=lambda target, source: [target[key].copy_(source[key]) for key in target],
    )
    names = common() | {
        "torch": LenientTorch(), "fmodule": module, "FModule": nn.Module, "BasicServer": object, "BasicClient": object,
        "csv": types.SimpleNamespace(writer=lambda file: types.SimpleNamespace(writerow=lambda row: None)),
        "open": lambda *words, **options: contextlib.nullcontext(io.StringIO()),
        "time": types.SimpleNamespace(time=lambda: 0.0),
    }  # fmt: skip
    server_of = definitions(folder / "FedRAC" / "my_algorithm" / "FedRAC.py", names)["Server"]
    server, delivered = server_of.__new__(server_of), list[Tensor]()
    alone = torch.tensor(case.standalone)
    powers = torch.exp(beta * alone)
    whole = [[torch.ones(200), torch.ones(200)] for _ in range(count)]

    def held(index: int) -> Tensor:
        """Return which parameters belong to the neurons of a participant's sub-model, or to none, (P,)."""
        first, second = (part.bool() for part in server.map[index])
        parts = [first[:, None].expand(200, 64), first, second[:, None].expand(200, 200), second]
        every = torch.ones(200 * 10 + 10, dtype=torch.bool)
        return torch.cat([*(part.reshape(-1) for part in parts), every])

    def sent() -> Tensor:
        return torch.stack([torch.where(held(index), vector(server.model), 0.0) for index in range(count)])

    def learns(index: int) -> Tensor:
        """Return which parameters a participant's training moves: not those that lead from gated neurons either."""
        first, second = (part.bool() for part in server.map[index])
        parts = [
            first[:, None].expand(200, 64), first, second[:, None] & first, second,
            second[None].expand(10, 200), torch.ones(10, dtype=torch.bool),
        ]  # fmt: skip
        return torch.cat([part.reshape(-1) for part in parts])

    def communicate(chosen: Any) -> dict[str, list[Net]]:
        number = server.current_round
        if number > 1:
            delivered.append(sent())
        planted = case.planted[number - 1]
        trained = [vector(server.model) + learns(index) * planted[index] for index in range(count)]
        return {"model": [case.net().of(values) for values in trained]}

    server.__dict__ |= {
        "current_round": 1, "t": 100, "device": CPU, "model": case.net(), "map": whole, "standalone_test_acc": alone,
        "client_contributions": powers / powers.max() * 100, "all_map_frenquency": torch.zeros(1, 400),
        "calculator": types.SimpleNamespace(test=lambda net, data, **options: {"accuracy": case.accuracy(net)}),
        "validation_data": None, "option": {"test_batch_size": 64}, "sample": lambda: list(range(count)),
        "communicate": communicate, "freq_stats_file": "",
    }  # fmt: skip
    while server.current_round <= len(case.planted):
        server.iterate()
        server.current_round += 1
    return [*delivered, sent()]
