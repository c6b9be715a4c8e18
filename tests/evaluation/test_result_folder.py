import json

import pytest

from i3dcli import I3DError
from i3dcli.distributed import ALONE
from i3dcli.evaluation.result_folder import RESULTS, result_folders
from i3dcli.evaluation.score_log import ScoreLog


def opened(*folders, resumable=True, overwrite=False):
    """Open folders for results, and close them."""
    with result_folders(folders, ALONE, resumable=resumable, overwrite=overwrite):
        pass


def recorded(folder):
    """A folder with the record of an evaluation that was interrupted."""
    with ScoreLog(folder, "f", ALONE):
        pass
    return folder


@pytest.mark.parametrize("name", [*RESULTS, "scores.0.jsonl"])
def test_files_of_others_under_the_names_of_results_are_not_replaced_unless_it_is_asked_for(tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}\n')
    for resumable in (True, False):
        with pytest.raises(I3DError, match=rf"^files are there: {tmp_path}: got {name}, which are of no evaluation to go on"):
            opened(tmp_path, resumable=resumable)
    assert (tmp_path / name).read_text() == '{"mine": 1}\n'
    opened(tmp_path, overwrite=True)


def test_an_evaluation_goes_on_beside_its_own_record_and_begins_anew_where_it_is_asked_to(tmp_path):
    recorded(tmp_path)
    (tmp_path / "metrics.json").touch()
    (tmp_path / "scores.old.jsonl").touch()
    opened(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    opened(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "scores.old.jsonl"}


def test_the_mean_of_splits_is_written_anew_beside_their_records(tmp_path):
    splits = [recorded(tmp_path / name) for name in ("split1", "split2")]
    (tmp_path / "metrics.json").write_text(json.dumps({"rgb": {"top1": 0.5, "total": 6}}))
    opened(*splits, tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(I3DError, match="files are there"):
        opened(*splits, tmp_path)


def test_the_record_of_one_split_says_nothing_of_anothers_folder(tmp_path):
    splits = [recorded(tmp_path / "split1"), tmp_path / "split2"]
    splits[1].mkdir()
    (splits[1] / "confusion.csv").write_text("mine")
    with pytest.raises(I3DError, match=r"files are there: .*split2"):
        opened(*splits)


def test_saved_scores_are_not_fused_over_the_results_of_an_evaluation(tmp_path):
    recorded(tmp_path)
    (tmp_path / "scores.npz").touch()
    with pytest.raises(I3DError, match="files are there"):
        opened(tmp_path, resumable=False)


def test_two_evaluations_are_not_in_one_folder_at_a_time(tmp_path):
    with (
        result_folders([tmp_path], ALONE, resumable=True, overwrite=False),
        pytest.raises(I3DError, match=r"^in use: .*: another process is writing to it; wait for its end, or choose another"),
    ):
        opened(tmp_path, overwrite=True)
