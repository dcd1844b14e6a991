import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from aequa_lightning.data import Dirichlet, TableData
from aequa_lightning.errors import InputError

ROWS = 120
HOSPITALS = ["Leeds", "St. Gallen", "Århus"]


def patients(**changes):
    """A table of patients: two numbers, a truth value, two columns of texts, a hospital each, and a diagnosis."""
    generator = np.random.default_rng(0)
    columns = {
        "age": generator.integers(20, 90, ROWS),
        "pressure": generator.normal(120, 15, ROWS),
        "smoker": generator.random(ROWS) < 0.3,
        "blood": generator.choice(["0", "A", "B", "AB"], ROWS),
        "ward": generator.choice(["east", "west"], ROWS),
        "hospital": np.array(HOSPITALS)[np.arange(ROWS) % 3],
        "diagnosis": np.array(["ill", "well"])[np.arange(ROWS) % 2],
    }
    return pandas.DataFrame({key: value for key, value in (columns | changes).items() if value is not None})


@pytest.fixture
def write(tmp_path):
    def write(table, name="patients.csv"):
        path = tmp_path / name
        table.to_parquet(path) if name.endswith("parquet") else table.to_csv(path, index=False)
        return str(path)

    return write


def encoded(train, test, *, numbers, categories):
    """The features by scikit-learn, numbers first; imputed as `missing=impute` does."""
    transformer = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "categories",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="missing", missing_values=np.nan),
                    OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
                ),
                categories,
            ),
        ]
    )
    return [
        transformer.fit(*([part.astype(dict.fromkeys(categories, object)) for part in (train,)])).transform(
            part.astype(dict.fromkeys(categories, object))
        )
        for part in (train, test)
    ]


@pytest.mark.parametrize("name", ["patients.csv", "patients.parquet"])
@pytest.mark.parametrize("missing", ["refuse", "impute"])
def test_table_features_are_those_of_scikit_learn(write, name, missing):
    table, other = patients(), patients().sample(30, random_state=1).reset_index(drop=True)
    if missing == "impute":
        for part in (table, other):
            part.loc[[3, 7, 11], "pressure"] = np.nan
            part.loc[[5, 8], "blood"] = None
    numbers, categories = ["age", "pressure", "smoker"], ["blood", "ward"]
    data = TableData(
        write(table, name),
        target="diagnosis",
        participant_column="hospital",
        test_path=write(other, f"other-{name}"),
        missing=missing,
    )
    data.setup()
    assert (data.classes, data.num_classes) == (("ill", "well"), 2)
    assert data.input_shape == (len(data.feature_names),)
    train, test = encoded(table, other, numbers=numbers, categories=categories)
    inputs, targets = data.test().tensors
    assert np.allclose(inputs.numpy(), test, atol=1e-5)
    assert targets.tolist() == (other["diagnosis"] == "well").astype(int).tolist()
    held = np.concatenate([part.tensors[0] for part in (data.pooled(), data.validation())])
    assert np.allclose(held[np.lexsort(held.T)], train[np.lexsort(train.round(5).T)], atol=1e-4)


def test_table_hospitals_are_the_participants(write):
    table = patients()
    data = TableData(write(table), target="diagnosis", participant_column="hospital", min_samples=1)
    data.setup()
    assert list(data.names) == sorted(HOSPITALS)
    assert data.participants == 3
    # A feature that differs by hospital shows that each holds its own rows.
    table["place"] = table["hospital"].map({name: number for number, name in enumerate(HOSPITALS)})
    data = TableData(write(table), target="diagnosis", participant_column="hospital", ignore=["age", "blood"])
    data.setup()
    column = data.feature_names.index("place")
    for number, name in enumerate(data.names):
        held = data.participant(number).tensors[0][:, column] * data.std[column] + data.mean[column]
        assert set(held.round().int().tolist()) == {HOSPITALS.index(name)}


def test_table_without_hospitals_is_divided_by_the_partition(write):
    table = patients(hospital=None)
    data = TableData(write(table), target="diagnosis", participants=4, partition=Dirichlet(5.0), min_samples=2)
    data.setup()
    assert data.names[0] == "participant-00"
    # A fifth of each class is the test part, the same for all seeds of the partition.
    assert np.bincount(data.test().tensors[1]).tolist() == [12, 12]
    other = TableData(write(table), target="diagnosis", participants=2, partition_seed=5)
    assert np.array_equal(other.test().tensors[0], data.test().tensors[0])
    assert TableData(write(table), target="diagnosis").participants == 10


def test_table_numbers_that_stand_for_categories_and_classes(write):
    table = patients(postcode=np.arange(ROWS) % 4 + 1000.0, diagnosis=np.arange(ROWS) % 12)
    data = TableData(write(table), target="diagnosis", categorical=["postcode"], ignore=["hospital"])
    assert data.feature_names[-4:] == ("postcode=1000", "postcode=1001", "postcode=1002", "postcode=1003")
    assert data.classes == tuple(map(str, range(12)))  # by number, not by letter


def test_table_category_that_only_the_test_part_has(write):
    other = patients().iloc[:40].assign(blood="C")
    with pytest.warns(UserWarning, match=r"'C' in column 'blood' of the test part .*\(40 rows like it\)"):
        data = TableData(write(patients()), target="diagnosis", test_path=write(other, "other.csv"), min_samples=1)
    columns = [number for number, name in enumerate(data.feature_names) if name.startswith("blood=")]
    assert not data.test().tensors[0][:, columns].any()


LACKS_AGE = patients(age=np.where(np.arange(ROWS) < 7, np.nan, 50.0))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (patients(), {"target": "sickness"}, r"data.target: .* has no column 'sickness', but age, pressure"),
        (patients(), {"participant_column": "clinic"}, r"data.participant_column: .* has no column 'clinic'"),
        (patients(), {"ignore": ["clinic"]}, r"data.ignore: .* has no column 'clinic'"),
        (patients(), {"separator": ";"}, r"has no column 'diagnosis', but .*is data.separator right\?"),
        (patients(), {"missing": "mean"}, r"data.missing is 'mean'; choose refuse or impute"),
        (LACKS_AGE, {}, r"column 'age' lacks \d of \d+ values; set data.missing=impute"),
        (patients(age=np.full(ROWS, np.nan)), {"missing": "impute"}, r"column 'age' is empty; name it in data.ignore"),
        (patients(age=[np.inf] * ROWS), {}, r"column 'age' holds infinity"),
        (
            patients(name=[f"patient {n}" for n in range(ROWS)]),
            {},
            r"'name' holds 96 different values in 96 rows, and at most 48",
        ),
        (patients(diagnosis=["ill", None] * 60), {}, r"column 'diagnosis' lacks 60 of 120 values; leave those rows"),
        (patients(diagnosis=np.linspace(0, 1, ROWS)), {}, r"holds measured values such as 0.0, .*pandas.qcut"),
        (patients(diagnosis=np.arange(ROWS)), {}, r"'diagnosis' holds 120 different values in 120 rows, too many"),
        (patients(diagnosis="ill"), {}, r"the target 'diagnosis' holds 'ill' in all rows; two classes"),
        (patients()[["diagnosis", "hospital"]], {"participant_column": "hospital"}, r"holds no features beside"),
        (
            patients(),
            {"participants": 5, "participant_column": "hospital"},
            r"participants is 5, but .* names 3: Leeds",
        ),
        (patients(), {"partition": Dirichlet(1.0), "participant_column": "hospital"}, r"both say who holds a row"),
        (patients().iloc[:0], {}, r"holds no rows"),
    ],
)
def test_table_what_does_not_fit(write, table, options, message):
    with pytest.raises(InputError, match=message):
        TableData(write(table), **{"target": "diagnosis"} | options)


def test_table_files_that_are_none(tmp_path, write):
    with pytest.raises(InputError, match=r"nowhere.csv is no table; expected is a .csv or .parquet file"):
        TableData(str(tmp_path / "nowhere.csv"), target="diagnosis")
    for name in ("damaged.parquet", "damaged.csv"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00 no table")
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            TableData(str(tmp_path / name), target="diagnosis")
    other = patients(diagnosis="dead")
    with pytest.raises(InputError, match=r"data.test_path .*: the target holds 'dead', which data.path lacks"):
        TableData(write(patients()), target="diagnosis", test_path=write(other, "other.csv"))
    with pytest.raises(InputError, match=r"other.csv has no column 'blood'"):
        TableData(write(patients()), target="diagnosis", test_path=write(patients(blood=None), "other.csv"))


def test_table_dates_are_refused(write):
    table = patients(seen=pandas.date_range("2026-01-01", periods=ROWS))
    with pytest.raises(InputError, match=r"column 'seen' is datetime64.*, neither numbers nor texts"):
        TableData(write(table, "patients.parquet"), target="diagnosis")


def test_table_hospital_with_too_few_rows_is_named(write):
    table = patients(hospital=["Leeds"] * 115 + ["Bonn"] * 5)
    data = TableData(write(table), target="diagnosis", participant_column="hospital")
    with pytest.raises(InputError, match=r"participant 0 of 2 \(Bonn\) would hold \d of .*leave out the rows of that"):
        data.setup()
