"""Every reader of files, given some hundred mutations of a sound file: it ends in a value or in one sentence."""

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from aequa_lightning.callbacks.payout.measured_curve import MeasuredCurve
from aequa_lightning.data import FEMNISTData, FromFile, NpzData
from aequa_lightning.engine.checkpoint import load_checkpoint, load_last
from aequa_lightning.errors import InputError
from aequa_lightning.report import read_run
from aequa_lightning.rewards.files.audit import Earned, audit_reward
from aequa_lightning.rewards.files.checkpoint import reward_content, serialize
from aequa_lightning.rewards.files.configuration import describe_configuration
from aequa_lightning.rewards.files.downloads import compare_download
from aequa_lightning.rewards.files.manifest import (
    manifest_faults,
    read_manifest,
    row_faults,
    verify_reward,
    write_manifest,
)
from aequa_lightning.rewards.files.signing import load_private_key, load_public_key, verify_file
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json
from aequa_lightning.run_folder.events import latest_rounds, read_events
from aequa_lightning.slimmable import SlicePlan
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.results import read_result
from tests.helpers.fake_run import write_fake_run

FUZZ = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# What JSON and YAML can put in the place of a value.
VALUES: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from([[], {}, [None], {"": 0}, "wide", -1, 1e308, [[[[]]]], "\u202e", "../x", "1e999"]),
)


@st.composite
def mutated_bytes(draw: Any, sound: bytes) -> bytes:
    """Cut, turn, insert or repeat bytes of a file."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["cut", "set", "insert", "remove", "repeat"]))
        if kind == "cut":
            del content[place:]
        elif kind == "set" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=8))
        elif kind == "remove":
            del content[place : place + draw(st.integers(1, 50))]
        else:
            content[place:place] = content[place : place + draw(st.integers(1, 50))]
    return bytes(content)


@st.composite
def mutated_json(draw: Any, sound: Any) -> bytes:
    """Put another value somewhere into a content, or take a key out."""
    content = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 2))):
        part = content
        while True:
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(part[key], dict | list) and part[key] and draw(st.booleans()):
                part = part[key]
                continue
            if draw(st.booleans()):
                part[key] = draw(VALUES)
            else:
                del part[key]
            break
    return json.dumps(content).encode()


def mutated(sound: bytes) -> Any:
    return st.one_of(mutated_bytes(sound), mutated_json(json.loads(sound)))


def ends_well(read: Callable[[], Any]) -> None:
    """Let a reader read; anything but a value or one sentence about bad input fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(InputError):
            read()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("fuzz") / "run", participants=3, rounds=2)


@pytest.mark.parametrize("file", ["allocation.json", "frontier.json", "rewards/manifest.json"])
@FUZZ
@given(data=st.data())
def test_the_report_reads_json(run_dir: Path, file: str, data: st.DataObject) -> None:
    path = run_dir / file
    sound = path.read_bytes()
    try:
        path.write_bytes(data.draw(mutated(sound)))
        ends_well(lambda: read_run(run_dir))
    finally:
        path.write_bytes(sound)


@FUZZ
@given(data=st.data())
def test_the_record_is_read(run_dir: Path, data: st.DataObject) -> None:
    path = run_dir / "events.jsonl"
    sound = path.read_bytes()
    lines = sound.splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    spoilt = data.draw(mutated(lines[place]))
    try:
        path.write_bytes(b"\n".join([*lines[:place], spoilt, *lines[place + 1 :]]))
        ends_well(lambda: latest_rounds(read_events(path)))
        ends_well(lambda: read_run(run_dir))
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize("file", ["contributions.csv", "config.yaml"])
@FUZZ
@given(data=st.data())
def test_text_is_read(run_dir: Path, file: str, data: st.DataObject) -> None:
    path = run_dir / file
    sound = path.read_bytes()
    try:
        path.write_bytes(data.draw(mutated_bytes(sound)))
        ends_well(lambda: read_run(run_dir))
        ends_well(lambda: describe_configuration(run_dir / "config.yaml"))
    finally:
        path.write_bytes(sound)


@FUZZ
@given(data=st.data())
def test_a_manifest_is_read_and_its_faults_are_found(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "rewards"
    row = {"file": "a.ckpt", "participant": "a", "width": 0.5, "validation_accuracy": 0.9, "test_accuracy": 0.8}
    write_manifest(folder, [{**row, "bytes": 7, "sha256": "0" * 64, "layers": {"b": 0.5}}], {"c": "0" * 64}, number=1)
    (folder / "a.ckpt").touch()
    path = folder / "manifest.json"
    path.write_bytes(data.draw(mutated(path.read_bytes())))

    def read() -> None:
        content = read_manifest(folder)
        faults = [*manifest_faults(content, size=path.stat().st_size), *map(row_faults, content["rewards"])]
        assert all(faults) or faults

    ends_well(read)
    ends_well(lambda: verify_reward(folder / "a.ckpt"))


@FUZZ
@given(data=st.data())
def test_a_curve_is_read_from_an_allocation(run_dir: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = json.loads((run_dir / "allocation.json").read_bytes()) | {"layers": {"0.5": {"conv": 0.5}}}
    path = tmp_path / "allocation.json"
    path.write_bytes(data.draw(mutated(json.dumps(content).encode())))

    def read() -> None:
        with possibly_damaged(path):
            MeasuredCurve.of_allocation(read_json(path))

    ends_well(read)


@FUZZ
@given(data=st.data())
def test_a_checkpoint_is_read(tmp_path: Path, data: st.DataObject) -> None:
    sound = serialize({"round": 3, "state_dict": {"a": torch.arange(20.0)}, "note": ["x", {"y": 1.5}]})
    path = tmp_path / "round-0003.ckpt"
    path.write_bytes(data.draw(mutated_bytes(sound)))
    ends_well(lambda: load_checkpoint(path))
    ends_well(lambda: load_last(tmp_path))


@FUZZ
@given(data=st.data())
def test_a_changed_reward_is_always_a_finding(tmp_path: Path, data: st.DataObject) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    sound = serialize(reward_content(network.state_dict(), hyper_parameters={"width": 0.5}, about={"participant": "a"}))
    changed = data.draw(mutated_bytes(sound))
    (tmp_path / "a.ckpt").write_bytes(changed)
    versions = {"torch": torch.__version__, "lightning": torch.load(io.BytesIO(sound))["pytorch-lightning_version"]}
    plan = SlicePlan({"w": (slice(0, 2),)}, {"w": (2,)})
    full = {"w": torch.arange(1.0, 5.0)}
    earned = Earned(
        network, {"width": 0.5}, {"participant": "a"}, torch.zeros(1, 3), versions, by_data=True, plan=plan, full=full
    )
    row = {"participant": "a", "width": 0.5, "file": "a.ckpt", "sha256": "0" * 64, "bytes": len(changed)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faults = [fault for fault in audit_reward(tmp_path, row, earned).faults if "SHA-256" not in fault]
    # Statistics may differ by rounding, and nothing else.
    assert faults or changed == sound or len(changed) == len(sound)


@FUZZ
@given(data=st.data())
def test_a_download_is_compared(data: st.DataObject) -> None:
    plan, full = SlicePlan({"w": (slice(0, 2),)}, {"w": (2,)}), {"w": torch.tensor([1.0, 2.0, 3.0])}
    sound = save(plan.extract(full))
    changed = data.draw(mutated_bytes(sound))
    assert list(compare_download(changed, plan, full, types={"w": torch.float32})) or changed == sound


def _arrays(**options: Any) -> bytes:
    content = io.BytesIO()
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 3
    np.savez(content, x_train=rng.normal(size=(12, 4)), y_train=labels, x_test=rng.normal(size=(12, 4)), y_test=labels)
    return content.getvalue()


@FUZZ
@given(data=st.data())
def test_arrays_are_read(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "arrays.npz"
    path.write_bytes(data.draw(mutated_bytes(_arrays())))
    ends_well(lambda: NpzData(str(path), participants=2, min_samples=1).setup())


@FUZZ
@given(data=st.data())
def test_an_assignment_is_read(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "who.csv"
    sound = "index,participant\r\n" + "".join(f"{row},{row % 2}\r\n" for row in range(12))
    path.write_bytes(data.draw(mutated_bytes(sound.encode())))
    ends_well(lambda: FromFile(str(path)).split([0, 1] * 6, 2, 0))


@settings(FUZZ, max_examples=100)
@given(data=st.data())
def test_keys_and_signatures_are_read(tmp_path: Path, data: st.DataObject) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    pem, raw = serialization.Encoding.PEM, b"content"
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key, signed, signature = tmp_path / "key.pem", tmp_path / "a.json", tmp_path / "a.sig"
    for sound, load in ((public, load_public_key), (secret, load_private_key)):
        key.write_bytes(data.draw(mutated_bytes(sound)))
        ends_well(lambda load=load: load(key))
    key.write_bytes(public)
    signed.write_bytes(raw)
    signature.write_bytes(changed := data.draw(mutated_bytes(private.sign(raw))))
    if changed == private.sign(raw):
        verify_file(signed, key)
    else:
        with pytest.raises(InputError, match="is no signature of"):
            verify_file(signed, key)


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_characters_of_writers_are_read(tmp_path: Path, data: st.DataObject) -> None:
    writers = {name: {"x": [[1] * 784], "y": [0]} for name in ("f0", "f1")}
    content = {"users": ["f0", "f1"], "num_samples": [1, 1], "user_data": writers}
    for part in ("train", "test"):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / "all.json").write_text(json.dumps(content))
    (tmp_path / "train" / "all.json").write_bytes(data.draw(mutated(json.dumps(content).encode())))
    ends_well(lambda: FEMNISTData(str(tmp_path), participants=2, min_samples=1).setup())


@pytest.mark.parametrize("file", ["result.json", "allocation.json", "cell.json"])
@settings(FUZZ, max_examples=100)
@given(data=st.data())
def test_the_cell_of_a_sweep_is_read(tmp_path: Path, file: str, data: st.DataObject) -> None:
    row = {"name": "a", "accuracy": 0.9, "gain": 0.1, "standalone_test": 0.8, "test_accuracy": 0.9, "contribution": 0.8}
    rows = [row, {**row, "name": "b", "accuracy": 0.8, "standalone_test": 0.6, "test_accuracy": 0.7}]
    sound = {"result.json": {"seconds": 1.5}, "cell.json": {"a": 1}, "allocation.json": {"participants": rows}}
    for name, content in sound.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / file).write_bytes(data.draw(mutated(json.dumps(sound[file]).encode())))
    ends_well(lambda: read_result(tmp_path, Cell("d", "p", "s", "m", 0)))


def _packed(compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_arrays())) as source, zipfile.ZipFile(content, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return content.getvalue()


def _header(text: str) -> bytes:
    """Return archives whose first array has a header of its own."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_arrays())) as source, zipfile.ZipFile(content, "w") as target:
        for name in source.namelist():
            header = text.encode().ljust(118) + b"\n"
            spoilt = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            target.writestr(name, spoilt if name == "x_train.npy" else source.read(name))
    return content.getvalue()


def _encrypted() -> bytes:
    content = bytearray(_arrays())
    start = 0
    for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + flag] |= 1
            start += 4
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_encrypted(), "encrypted"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 100000000)}"), "its header says"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 60 + ")" * 60 + "}"), "cannot be read"),
        (_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), "x_train is object"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "cannot be read"),
        (b"", "cannot be read"),
        (_packed(zipfile.ZIP_LZMA)[:-400], "cannot be read"),
    ],
)
def test_archives_of_odd_making_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        NpzData(str(path), participants=2, min_samples=1).setup()


def test_archives_of_every_packing_are_read(tmp_path: Path) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / "arrays.npz"
        path.write_bytes(_packed(compression))
        data = NpzData(str(path), participants=2, min_samples=1)
        data.setup()
        assert len(data.test()) == 12


def test_a_damaged_lzma_stream_is_one_sentence(tmp_path: Path) -> None:
    content = bytearray(_packed(zipfile.ZIP_LZMA))
    content[80:200] = b"\xff" * 120
    path = tmp_path / "arrays.npz"
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="cannot be read"):
        NpzData(str(path), participants=2, min_samples=1).setup()


def test_a_zip_bomb_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "round-0001.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


def test_copies_of_checkpoints_are_left_alone(tmp_path: Path) -> None:
    content = serialize({"round": 3})
    for name in ("round-0003.ckpt", "round-0001 (copy).ckpt", "round-x.ckpt", "round-9999999999999999999999.ckpt"):
        (tmp_path / name).write_bytes(content)
    assert load_last(tmp_path) == {"round": 3}


def test_events_that_nest_deep_or_hold_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sound = b'{"event": "start"}\n'
    deep = b'{"event": "x", "y": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    for line in (b"[" * 100_000, deep, b'{"event": "x", "y": NaN}', b'{"event": "x", "y": 1e999}'):
        path.write_bytes(sound + line + b"\n" + sound)
        assert read_events(path) == [{"event": "start"}] * 2
        ends_well(lambda: read_run(tmp_path))


def test_an_assignment_may_begin_with_a_byte_order_mark_and_names_samples_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "who.csv"
    path.write_bytes("\ufeffindex,participant\n0,0\n1,1\n".encode())
    assert [part.tolist() for part in FromFile(str(path)).split([0, 1], 2, 0)] == [[0], [1]]
    for row in ("2,0", "-1,0"):
        path.write_text(f"index,participant\n0,0\n1,1\n{row}\n")
        with pytest.raises(
            InputError, match=f"names sample {row.split(',')[0]}, but the training part has samples 0 to 1"
        ):
            FromFile(str(path)).split([0, 1], 2, 0)
    path.write_bytes(b"index,participant\n0,\xe9\n")
    with pytest.raises(InputError, match="write it in UTF-8"):
        FromFile(str(path)).split([0, 1], 2, 0)
