"""Options of Lightning's Trainer that CollaborativeTrainer lacks, and what stands for them here."""

_EPOCHS = "trainer.max_rounds says how often participants train, and trainer.local_epochs how long in a round"
_STEPS = "trainer.local_steps says how many batches a participant trains on in a round"
_PARTS = "validation and test part are always whole; a data class of your own can load smaller ones"
_EVERY = "every round is validated"
_SHOWN = "metrics.csv and events.jsonl have a row for each round"
_ALWAYS = "results are always repeatable, to the bit"

# A sentence for each option, without the option itself.
INSTEAD = {
    "strategy": "trainer.devices and trainer.replicas say how processes share the participants",
    "max_epochs": _EPOCHS,
    "min_epochs": _EPOCHS,
    "max_steps": _STEPS,
    "min_steps": _STEPS,
    "max_time": "a signal, as `timeout` or SLURM sends it, stops a run after its round",
    "limit_train_batches": _STEPS,
    "limit_val_batches": _PARTS,
    "limit_test_batches": _PARTS,
    "limit_predict_batches": _PARTS,
    "overfit_batches": _STEPS,
    "val_check_interval": _EVERY,
    "check_val_every_n_epoch": _EVERY,
    "num_sanity_val_steps": "the model is checked before the first round",
    "log_every_n_steps": _SHOWN,
    "enable_checkpointing": "trainer.checkpoint_every and trainer.keep_checkpoints say which rounds are saved",
    "enable_progress_bar": "the bar is shown in a terminal only",
    "enable_model_summary": "the first event of events.jsonl describes the model",
    "accumulate_grad_batches": "data.batch_size says how many samples a step takes",
    "gradient_clip_val": "no gradients are clipped; an optimizer of your own can do so in its step",
    "gradient_clip_algorithm": "no gradients are clipped; an optimizer of your own can do so in its step",
    "deterministic": _ALWAYS,
    "benchmark": _ALWAYS,
    "inference_mode": "evaluation never records gradients",
    "use_distributed_sampler": "participants are divided over the processes, not samples",
    "profiler": "events.jsonl has the seconds of each phase of each round; any profiler of Python works from outside",
    "detect_anomaly": "a participant whose update is not finite is left out and named",
    "barebones": "trainer.report=false and trainer.export_programs=false leave out what takes time at the end",
    "plugins": "the engine chooses them by trainer.precision and by what has started the processes",
    "sync_batchnorm": "statistics of norms are taken anew on the validation part after each round",
    "reload_dataloaders_every_n_epochs": "data are loaded once",
    "default_root_dir": "trainer.run_dir is the folder of the run",
    "enable_autolog_hparams": "config.yaml in the run folder holds all options",
    "model_registry": "rewards/ in the run folder holds the models",
}


def instead(option: str) -> str | None:
    """Return a sentence on an option of Lightning's Trainer; None if it is none of those.

    Args:
        option: Its dotted name, such as ``trainer.max_epochs``.

    Example:
        >>> instead("trainer.default_root_dir")
        "trainer.default_root_dir is an option of Lightning's Trainer; here trainer.run_dir is the folder of the run."
        >>> instead("data.max_epochs")
    """
    block, _, name = option.rpartition(".")
    if block != "trainer" or name not in INSTEAD:
        return None
    return f"{option} is an option of Lightning's Trainer; here {INSTEAD[name]}."
