"""What every participant receives in every round, kept on file so that it can be audited."""

from torch import Tensor

from aequa_lightning.engine.callback import CollaborationCallback
from aequa_lightning.engine.run import Run
from aequa_lightning.rewards.files.downloads import save_download


class Downloads(CollaborationCallback):
    """Writes each download as ``downloads/round-NNNN/NAME.safetensors``, in the process that hosts the participant."""

    def on_participant_start(self, run: Run, participant: int, received: Tensor) -> None:
        """Keep what was received: the parameters of the participant's width, cut out, and nothing else."""
        if run.topology.replica == 0:
            network = run.classifier.network
            with run.model_at(received):
                slices = network.plan(run.widths[participant]).extract(dict(network.full.named_parameters()))
            save_download(run.config.run_dir, run.round + 1, run.data.names[participant], slices)
