import hashlib

import pytest

from cepcli.agents.offline_config import PRESETS, OfflineConfig
from cepcli.config import resolve
from cepcli.datasets.dataset import inputs_of
from cepcli.datasets.labelling import LabelConfig, label
from cepcli.datasets.load import load_dataset
from cepcli.datasets.minari_data import write_minari
from cepcli.errors import ArtifactError, Interrupted
from cepcli.runs.engine import Hooks, evaluate_offline_run, start_run
from cepcli.workspace.artifacts import Artifact, Workspace, sha256
from tests.datasets.data import d4rl_file, walker

QUICK = {
    "algorithm": "bc", "steps": 6, "checkpoint_interval": 2, "eval_env": False,
    "control.hidden": 4, "control.batch_size": 4,
}  # fmt: skip


def load(name, space, **more):
    return load_dataset(str(name), workspace=space, notify=lambda text: None, **more)


def learn(space, *, resume=False, stop=lambda: False, **flags):
    config = resolve(
        OfflineConfig, flags={**QUICK, **flags}, presets=PRESETS, preset_key="algorithm"
    )
    return start_run(
        config, space, "a", resume=resume, overwrite=False, hooks=Hooks(stop_requested=stop),
        notify=lambda text: None,
    )  # fmt: skip


def recorded(space):
    return space.open("run", "a").manifest["inputs"]


def after(steps):
    """Stops once so many were asked about."""
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def test_a_run_names_the_file_it_learned_from(tmp_path):
    path, space = d4rl_file(tmp_path / "mine.hdf5"), Workspace(tmp_path)
    learn(space, dataset=str(path), env="walker2d")
    assert recorded(space) == [{"kind": "dataset", "name": str(path), "sha256": sha256(path)}]


def test_a_run_names_the_dataset_and_the_labels_it_used(tmp_path):
    space = Workspace(tmp_path)
    learn(space, dataset="d4rl", env="walker2d", algorithm="cql-prior", prior="walker2d")
    [dataset, labels] = recorded(space)
    made_of = space.open("dataset", "walker2d-medium-replay").reference
    assert dataset == made_of._asdict()
    [name] = [n for n in space.names("labels") if n.startswith("walker2d-")]
    assert labels == space.open("labels", name).reference._asdict()


def test_a_run_that_uses_no_labels_names_none(tmp_path):
    space = Workspace(tmp_path)
    learn(space, dataset="d4rl", env="walker2d", algorithm="cql-prior", prior="uniform")
    assert [made_of["kind"] for made_of in recorded(space)] == ["dataset"]


def test_a_folder_is_known_by_all_its_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    id_ = write_minari(tmp_path, walker(), recipe="medium", about="made up")
    data = load(id_, Workspace(tmp_path))
    [before] = inputs_of(data)
    assert before.name == str(tmp_path / id_ / "data")
    assert inputs_of(data) == [before]
    (tmp_path / id_ / "data" / "metadata.json").write_text("{}")
    [now] = inputs_of(data)
    assert now.sha256 != before.sha256


def test_a_labelled_dataset_has_both_origins(tmp_path):
    path, space = d4rl_file(tmp_path / "mine.hdf5"), Workspace(tmp_path)
    label(load(path, space, env="walker2d"), LabelConfig("uniform"), space)
    data = load(path, space, env="walker2d", labels="uniform")
    file, labels = data.origins
    assert file == path
    assert isinstance(labels, Artifact)
    assert [made_of.kind for made_of in inputs_of(data)] == ["dataset", "labels"]


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    path, space = d4rl_file(tmp_path / "mine.hdf5"), Workspace(tmp_path)
    with pytest.raises(Interrupted):
        learn(space, dataset=str(path), env="walker2d", stop=after(3))
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    d4rl_file(path, walker(seed=1))
    with pytest.raises(ArtifactError, match=f"of sha256 {before[:12]}, but found is"):
        learn(space, dataset=str(path), env="walker2d", resume=True)
    d4rl_file(path, walker())


def test_a_finished_run_is_not_evaluated_with_other_data(tmp_path):
    path, space = d4rl_file(tmp_path / "mine.hdf5"), Workspace(tmp_path)
    learn(space, dataset=str(path), env="walker2d")
    d4rl_file(path, walker(seed=1))
    with pytest.raises(ArtifactError, match="learns from the dataset"):
        evaluate_offline_run(space, "a", 1, lambda text: None)
