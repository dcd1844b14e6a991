from functools import partialmethod
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch._dynamo.testing import CompileCounterWithBackend

from aequa_lightning.data import DigitsData
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import SlimmableModel
from tests.helpers.run_config import small_config


def run(folder: Path, *, compiled: bool) -> Collaboration:
    data = DigitsData(participants=3, train_samples=100)
    torch.manual_seed(0)
    options = {"hidden": (8,)}
    model = SlimmableClassifier(10, data.input_shape, backbone="mlp", backbone_options=options, widths=[1.0, 0.5])
    config = small_config(folder, compile=compiled)
    return Collaboration(Fabric(accelerator="cpu", devices=1), model, data, config=config, callbacks=[])


# The compiler looks at this attribute of every input, and hides the warning unless warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compile_learns_the_same_from_one_graph_per_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(SlimmableModel, "compile", partialmethod(SlimmableModel.compile, backend=counter))
    plain, compiled = (run(tmp_path / str(compiled), compiled=compiled) for compiled in (False, True))
    assert plain.fit()
    assert counter.frame_count == 0
    assert compiled.fit()
    assert counter.frame_count == 1 + len(compiled.run.grid)  # one to see whether anything can be compiled
    torch.testing.assert_close(compiled.run.parameters, plain.run.parameters)


def test_compile_without_a_compiler_trains_nothing(tmp_path: Path) -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++")}),
        pytest.raises(InputError, match="compile: "),
    ):
        run(tmp_path, compiled=True).fit()
    assert not (tmp_path / "events.jsonl").exists()
