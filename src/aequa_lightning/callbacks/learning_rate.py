"""Records the learning rate of each round."""

from typing_extensions import override

from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.run import Run


class LearningRateMonitor(CollaborationCallback):
    """Adds the participants' learning rate to the events of the rounds (``learning_rate``) and to the loggers.

    It is a number; with several parameter groups a list, and the loggers receive ``learning_rate/GROUP``.
    """

    @override
    def on_round_end(self, run: Run, result: RoundResult) -> None:
        rates = [float(options["lr"]) for options in run.schedule[result.round - 1]]
        if len(rates) == 1:
            result.record["learning_rate"] = rates[0]
            metrics = {"learning_rate": rates[0]}
        else:
            result.record["learning_rate"] = rates
            metrics = {f"learning_rate/{group}": rate for group, rate in enumerate(rates)}
        run.fabric.log_dict(metrics, step=result.round)
