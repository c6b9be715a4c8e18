import dataclasses
import os
import socket

import bundles
import oracle
import pytest
import torch
from click.testing import CliRunner
from hosts import CONTENT, blob_id

from i3dcli import I3D, CheckpointError, list_models, load_model, model_info
from i3dcli.checkpoints import zoo
from i3dcli.checkpoints.download import download
from i3dcli.cli.main import main

PUBLISHED = ["kinetics400", "kinetics400-deepmind", "kinetics400-scratch", "kinetics600", "charades"]
NAMES = [*PUBLISHED, "camera-motion"]  # the last one comes with the package


def model_at(host, *faults):
    host.faults = list(faults)
    files = {"rgb": (host.file,), "flow": (dataclasses.replace(host.file, name="flow.pt"),)}
    return zoo.ZooModel("tiny", files, 10, {}, "none", "none")


def test_first_use_downloads_and_second_use_finds(host, tmp_path, monkeypatch):
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path))
    model = model_at(host)
    assert zoo.fetch(model) == zoo.fetch(model) == {"rgb": tmp_path / "weights.pt", "flow": tmp_path / "flow.pt"}
    assert len(host.starts) == 2


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(zoo.Path, "home", homeless)
    for name in ("XDG_CACHE_HOME", "I3D_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    assert zoo.weights_folders() == [zoo.Path("weights")]
    assert CliRunner().invoke(main, ["predict", "--list-models"]).exit_code == 0


def published(host, name, tmp_path, monkeypatch):
    """The zoo's model `name`, narrow and of random weights, as if the loopback host published it; downloads go to weights/."""
    model, served, folder = zoo.find_model(name), {}, tmp_path / "made"
    folder.mkdir()
    for stream, files in model.files.items():
        net = oracle.lively(I3D(model.num_classes, oracle.CHANNELS[stream], width=0.0625))
        if len(files) == 1:
            torch.save(net.state_dict(), folder / "made")
            made = [folder / "made"]
        else:
            index = bundles.write_bundle(folder / "made", bundles.deepmind(net.state_dict()))
            made = [index, index.with_suffix(".data-00000-of-00001")]
        host.contents |= {f"/{file.name}": path.read_bytes() for file, path in zip(files, made, strict=True)}
        url = f"http://127.0.0.1:{host.server_port}/"
        served[stream] = tuple(
            dataclasses.replace(file, folder_url=url, blob_id=blob_id(host.contents[f"/{file.name}"])) for file in files
        )
    model = dataclasses.replace(model, files=served)
    monkeypatch.setitem(zoo.MODELS, name, model)
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path / "weights"))
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_name_is_downloaded_once_and_loads(host, tmp_path, monkeypatch, name):
    model = published(host, name, tmp_path, monkeypatch)
    assert not model.present
    first = load_model(name, device="cpu")
    assert model.present and len(host.starts) == len(model.all_files)
    assert first.name == name and tuple(first.nets) == model.streams and len(first.labels) == model.num_classes
    assert model.classes is None or first.labels == model.classes
    again = load_model(name, device="cpu", streams=("rgb",))
    assert tuple(again.nets) == ("rgb",) and len(host.starts) == len(model.all_files)
    for key, value in again.nets["rgb"].state_dict().items():
        assert torch.equal(value, first.nets["rgb"].state_dict()[key])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_wrong_byte_of_any_name_is_refused_and_leaves_nothing(host, tmp_path, monkeypatch, name):
    model = published(host, name, tmp_path, monkeypatch)
    host.faults = [None] * (len(model.all_files) - 1) + ["corrupt"]
    with pytest.raises(CheckpointError, match=f"wrong bytes: .*{model.all_files[-1].name}.* deleted"):
        load_model(name, device="cpu")
    left = {str(path.relative_to(tmp_path / "weights")) for path in (tmp_path / "weights").rglob("*") if path.is_file()}
    assert left == {file.name for file in model.all_files[:-1]}


def test_both_files_of_a_stream_are_taken_from_one_folder(host, tmp_path, monkeypatch):
    """An index without its data, which a broken download left in the cache, does not stand in the way of whole ones."""
    model = published(host, "kinetics600", tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("I3D_WEIGHTS", raising=False)
    index, data = model.all_files
    download(index, tmp_path / "cache" / "i3d")
    host.faults = ["404"]
    with pytest.raises(CheckpointError) as caught:
        zoo.fetch(model)
    assert index.url in str(caught.value) and data.url in str(caught.value)  # both, as both go into one folder
    assert f"copy them in their folders into {tmp_path}/cache/i3d or ./weights" in str(caught.value)
    for file in model.all_files:
        download(file, tmp_path / "weights")
    assert zoo.fetch(model)["rgb"].samefile(tmp_path / "weights" / index.name)
    assert load_model("kinetics600", device="cpu").labels == model.classes


def test_a_folder_that_may_not_be_read_counts_as_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path / ("long" * 100)))
    assert zoo.home(zoo.find_model("kinetics600").files["rgb"]) is None


def test_a_stream_that_a_model_has_not_is_refused():
    with pytest.raises(CheckpointError, match="no flow stream: kinetics600: the model has rgb only; leave flow out"):
        zoo.fetch(zoo.find_model("kinetics600"), ("rgb", "flow"))


def test_list_models_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "rgb_scratch_kin600").mkdir()
    for file in zoo.find_model("kinetics600").all_files:
        (tmp_path / file.name).touch()
    result = CliRunner().invoke(main, ["predict", "--list-models"])
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert (result.exit_code, result.stderr, list(rows)) == (0, "", ["name", *NAMES])
    assert " rgb            600  103.2  yes  " in rows["kinetics600"]
    assert (
        " rgb + flow     400  101.5  no   rgb 68.4 / 88.0; flow 61.5 / 83.4; two-stream 71.6 / 90.0; "
        in rows["kinetics400-scratch"]
    )


def test_folders_are_searched_in_order(host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("chosen", "weights", "cache/i3d"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "weights.pt").write_bytes(CONTENT)
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path / "chosen"))
    for folder in ("chosen", "weights", "cache/i3d"):
        found = zoo.find_weights((host.file,))
        assert found.samefile(tmp_path / folder / "weights.pt")
        found.unlink()
    assert zoo.find_weights((host.file,)) is None and host.starts == []


@pytest.mark.parametrize(("faults", "reason"), [(["404"], "HTTP Error 404"), (["truncate"] * 3, "broke off after 900000 of")])
def test_a_host_that_cannot_deliver_is_one_line_with_both_addresses(host, tmp_path, monkeypatch, faults, reason):
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path))
    model = model_at(host, *faults)
    with pytest.raises(CheckpointError) as caught:
        zoo.fetch(model)
    message = str(caught.value)
    assert "\n" not in message and reason in message and str(tmp_path) in message
    assert all(file.url in message for file in model.all_files)


def test_a_file_of_other_bytes_in_a_weights_folder_is_refused(host, tmp_path, monkeypatch):
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path))
    (tmp_path / "weights.pt").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"wrong bytes: .*weights\.pt"):
        zoo.find_weights((host.file,))


def test_predict_offline_says_in_one_line_where_to_put_what(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("https_proxy", proxy)  # nobody listens there any more
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["predict", "video.mp4"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert (
        "rgb_imagenet.pt and https" in result.stderr
        and "--model camera-motion needs no download" in result.stderr
        and f"into {tmp_path} " in result.stderr
    )


def test_the_table_of_models_is_complete():
    assert list(list_models()) == NAMES
    for model in map(model_info, list_models()):
        assert set(model.streams) == ({"rgb"} if model.name == "kinetics600" else {"rgb", "flow"})
        assert all(len(file.blob_id) == 40 for file in model.all_files)
        assert all(file.url.startswith("https://") or file.bundled for file in model.all_files)
        assert model.classes is None or len(set(model.classes)) == model.num_classes
    kinetics = zoo.find_model("kinetics400").classes
    assert (len(kinetics), kinetics[0], kinetics[-1], list(kinetics)) == (400, "abseiling", "zumba", sorted(kinetics))
    more = zoo.find_model("kinetics600").classes
    assert (len(more), more[0], more[-1], list(more)) == (600, "abseiling", "zumba", sorted(more))


def test_published_indexes_have_the_blob_ids_of_the_zoo():
    ids = {
        file.name.split("/")[0]: file.blob_id
        for model in map(model_info, list_models())
        for file in model.all_files
        if "index" in file.name
    }
    assert ids == {path.stem: blob_id(path.read_bytes()) for path in bundles.INDEXES.glob("*.index")}


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(CheckpointError, match=f"somewhere/else: expected one of {', '.join(NAMES)};"):
        zoo.find_model("somewhere/else")
    with pytest.raises(CheckpointError, match="unknown model: Camera_Motoin: did you mean camera-motion"):
        zoo.find_model("Camera_Motoin")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_named(host, tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path / "new"))
    with pytest.raises(CheckpointError, match="Permission denied"):
        zoo.fetch(model_at(host))
