"""Options and modules that had other names in earlier versions: who gives an old one is told the new one."""

import re

# Old and new names of options; `init_args` is left out of them.
OPTIONS = {
    "model.widest_share": "full_width_loss_weight",
    "model.narrowest_share": "smallest_width_loss_weight",
    "model.sampled_widths": "num_random_widths",
    "trainer.programs": "export_programs",
    "trainer.assessment.keep_out": "exclude_flagged",
    "trainer.participation.choice": "sampling",
    "trainer.participation.steps_in_time": "step_budget",
    "trainer.mechanism.resamples": "bootstrap_samples",
    "trainer.mechanism.pin_top": "full_width_for_top",
    "trainer.mechanism.fill_gaps": "per_layer_widths",
    "trainer.mechanism.means": "payment",
}
# Old and new names of modules within `aequa_lightning` whose classes a configuration may name.
MODULES = {
    "callbacks.measures": "callbacks.assessment.measures",
    "collaboration": "engine",
    "collaboration.aggregators": "engine.server.aggregators",
    "collaboration.corrections": "engine.local.corrections",
    "collaboration.hooks": "engine.callback",
    "collaboration.participation": "engine.participation",
    "collaboration.privacy": "engine.server.privacy",
    "collaboration.robust": "engine.server.robust",
    "mechanisms.means": "mechanisms.payment",
    "rewards.classifier": "modules.reward",
    "training": "modules.classifier",
}


def new_name(key: str, message: str) -> str | None:
    """Return a sentence with the new name of what the parser has refused; None if it never had another one.

    Args:
        key: Dotted key of the block that the message is about; empty if the message itself holds the whole key.
        message: The parser's message.

    Example:
        >>> new_name("model", "Option 'widest_share' is not accepted")
        'model.widest_share is now model.full_width_loss_weight; rename it.'
        >>> new_name("", "unrecognized arguments: --trainer.programs=false")
        'trainer.programs is now trainer.export_programs; rename it.'
        >>> new_name("data", "No module named 'elsewhere'")
    """
    for whole in refused_options(key, message):
        if whole in OPTIONS:
            return f"{whole} is now {whole.rpartition('.')[0]}.{OPTIONS[whole]}; rename it."
    if re.search(r"No module named 'aequa_lightning|module 'aequa_lightning.*' has no attribute", message):
        for path in re.findall(r"'aequa_lightning\.([\w.]+)'", message):
            parts = path.split(".")
            for old in (".".join(parts[:count]) for count in range(len(parts), 0, -1)):
                if old in MODULES:
                    return f"aequa_lightning.{old} is now aequa_lightning.{MODULES[old]}; change the class path."
    return None


def refused_options(key: str, message: str) -> list[str]:
    """Return the dotted names of the options that a message refuses; the arguments are those of :func:`new_name`.

    Example:
        >>> refused_options("", "unrecognized arguments: --trainer.max_epochs 3")
        ['trainer.max_epochs']
    """
    found = re.findall(r"[Oo]ption '([\w.]+)'|--([\w.]+)", message)
    return [".".join([*filter(None, [key]), *filter(None, option)]).replace(".init_args", "") for option in found]
