"""Training from row groups that are read as they are needed: equal to rows in memory, resumable, chosen by size."""

import itertools
import logging

import polars as pl
import pytest
import small_job

from intarsia.core.errors import ConfigError, TrainingError
from intarsia.data import streaming as module
from intarsia.data.memory import available_memory
from intarsia.data.reading import RowGroupReader, row_group_index
from intarsia.recommender import prepare
from intarsia.recommender.pipeline import pipeline_from


@pytest.fixture
def files(tmp_path):
    """Two training files with row groups of different size, and a validation file."""
    folder = tmp_path / "train"
    folder.mkdir()
    rows = small_job.table(330, lists=True)
    rows[:190].write_parquet(folder / "a.parquet", row_group_size=40)
    rows[190:].write_parquet(folder / "b.parquet", row_group_size=33)
    small_job.table(90, seed=1, lists=True).write_parquet(tmp_path / "valid.parquet", row_group_size=25)
    return folder, tmp_path / "valid.parquet"


def job_of(files, streaming, train_config=None, **data):
    data = {"input_type": "ParquetInput", "streaming": streaming, "shuffle": False, **data}
    log = {"log_step_count_steps": 1, "save_checkpoints_steps": 9}
    return small_job.pipeline(*files, data=data, train_config={**log, **(train_config or {})})


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_stream_gives_the_weights_losses_and_metrics_of_rows_in_memory(tmp_path, files, prefetch):
    small_job.train(job_of(files, False), tmp_path / "memory")
    fitted = small_job.train(job_of(files, True, prefetch_size=prefetch), tmp_path / "stream")
    assert small_job.outcome(tmp_path / "stream") == small_job.outcome(tmp_path / "memory")
    assert small_job.losses(tmp_path / "stream") == small_job.losses(tmp_path / "memory")
    assert len(small_job.losses(tmp_path / "stream")) == 2 * 21
    assert fitted.rows == {"train": 330, "valid": 90}


def test_vocabularies_are_those_of_all_row_groups(tmp_path, files):
    one = small_job.train(job_of(files, True), tmp_path / "stream").recommender
    other = small_job.train(job_of(files, False), tmp_path / "memory").recommender
    assert one.encoder.vocabularies["user"].values.to_list() == other.encoder.vocabularies["user"].values.to_list()
    assert one.score(small_job.table(50)).equals(other.score(small_job.table(50)))


def broken_after(count):
    """A source that fails in the middle of an epoch, like a disk."""
    epoch = module.StreamingSource.epoch
    left = itertools.count(count, -1)

    def batches(self, number, start_batch=0):
        for batch in epoch(self, number, start_batch):
            if next(left) == 0:
                raise OSError("the disk is gone")
            yield batch

    return batches


@pytest.mark.parametrize("data", [{}, {"shuffle": True, "shuffle_buffer_size": 3}, {"on_bad_rows": "skip"}])
@pytest.mark.parametrize("count", [11, 32])
def test_interrupted_and_resumed_in_the_middle_of_a_stream(tmp_path, files, monkeypatch, data, count):
    """Steps 10 and 11, or 28 to 32, are lost and done again; the position in the stream is found again."""
    job = job_of(files, True, **data)
    small_job.train(job, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(module.StreamingSource, "epoch", broken_after(count))
        with pytest.raises(OSError, match="the disk is gone"):
            small_job.train(job, tmp_path / "run")
    small_job.train(job, tmp_path / "run", resume=True)
    assert small_job.outcome(tmp_path / "run") == small_job.outcome(tmp_path / "whole")
    assert small_job.losses(tmp_path / "run") == small_job.losses(tmp_path / "whole")


def test_bad_rows_of_a_stream_are_left_out_and_reported_once(tmp_path, files, caplog):
    rows = small_job.table(120).with_columns(
        price=pl.when(pl.int_range(120) == 71).then(float("nan")).otherwise("price"),
        clk=pl.when(pl.int_range(120) == 75).then(None).otherwise("clk"),
        item=pl.when(pl.int_range(120) == 79).then(40).otherwise("item"),
    )
    path = tmp_path / "bad.parquet"
    rows.write_parquet(path, row_group_size=50)
    job = small_job.pipeline(
        path, data={"input_type": "ParquetInput", "streaming": True, "on_bad_rows": "skip", "shuffle": False}
    )
    with caplog.at_level(logging.WARNING, logger="intarsia"):
        fitted = small_job.train(job, tmp_path / "stream")
    told = caplog.text
    assert told.count(f"{path}, row 72, column `price`: DOUBLE must be a finite number. Received: nan.") == 1
    assert f"{path}, row 76, column `clk`: every row must have a label. Received: None." in told
    assert (
        f"{path}, row group 1 and perhaps others: feature `item`: an id must lie in 0 <= id < num_buckets = 12" in told
    )
    assert fitted.rows == {}
    job["data_config"]["streaming"] = False
    memory = small_job.train(job, tmp_path / "memory")
    assert memory.rows == {"train": 118}
    assert small_job.outcome(tmp_path / "stream") == small_job.outcome(tmp_path / "memory")


def test_rows_are_named_by_their_place_in_the_file_though_others_were_left_out(tmp_path):
    rows = small_job.table(120).with_columns(
        price=pl.when(pl.int_range(120) == 71).then(float("nan")).otherwise("price"),
        clk=pl.when(pl.int_range(120) == 90).then(5.0).otherwise("clk"),
    )
    path = tmp_path / "bad.parquet"
    rows.write_parquet(path, row_group_size=50)
    job = small_job.pipeline(path, data={"input_type": "ParquetInput", "streaming": True, "on_bad_rows": "skip"})
    with pytest.raises(Exception, match=r"bad\.parquet, row 91, column `clk`: 5\.0"):
        small_job.train(job, tmp_path / "run")


def test_a_file_damaged_while_it_is_read(tmp_path, files):
    """The part that is damaged is named; what was trained before is kept."""
    path = sorted(files[0].iterdir())[1]
    content = bytearray(path.read_bytes())
    content[4:600] = b"\xff" * 596
    path.write_bytes(content)
    job = job_of(files, True)
    job["feature_config"]["features"][0] = {"input_names": ["user"], "hash_bucket_size": 9, "embedding_dim": 4}
    with pytest.raises(Exception, match=r"b\.parquet: row group 0 of 5 must be readable. It is damaged") as found:
        small_job.train(job, tmp_path / "run")
    assert not isinstance(found.value, TrainingError | OSError)
    assert (tmp_path / "run" / "checkpoints" / "step-00000009" / "state.json").exists()


# The choice between a stream and memory


def chosen(files, monkeypatch, memory, **data):
    monkeypatch.setattr(prepare, "available_memory", lambda: memory)
    job = small_job.pipeline(*files, data={"input_type": "ParquetInput", **data})
    source = prepare.prepare(pipeline_from(job).config)
    return isinstance(source.train, module.StreamingSource), isinstance(source.parts["valid"], module.StreamingSource)


def test_files_are_streamed_where_they_do_not_fit(tmp_path, files, monkeypatch):
    columns = [*small_job.NAMES]
    size = sum(group.nbytes for group in row_group_index(str(files[0]), columns=columns))
    assert chosen(files, monkeypatch, 4 * size - 4) == (True, False)
    assert chosen(files, monkeypatch, 4 * size) == (False, False)
    assert chosen(files, monkeypatch, size // 2) == (True, True)
    assert chosen(files, monkeypatch, size // 2, streaming=False) == (False, False)
    assert chosen(files, monkeypatch, 1 << 40, streaming=True) == (True, False)


def test_only_needed_columns_count_and_dictionaries_do_not_hide_size(tmp_path):
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": ["the same text"] * 10_000, "b": list(range(10_000))}).write_parquet(path)
    (both,) = row_group_index(path)
    (one,) = row_group_index(path, columns=["a"])
    assert path.stat().st_size < 100_000
    assert 160_000 <= one.nbytes < both.nbytes - 79_000
    assert RowGroupReader(path, pipeline_from(small_job.pipeline(path)).config.data_config, columns=["b"]).index[0].rows


def test_splitting_a_stream_is_refused(tmp_path, files):
    job = small_job.pipeline(
        files[0], data={"input_type": "ParquetInput", "streaming": True, "split": {"by": "random"}}
    )
    with pytest.raises(
        ConfigError, match=r"data_config\.split needs all rows in memory\. Received: training files that"
    ):
        small_job.train(job, tmp_path / "run")


def test_streaming_text_is_refused(tmp_path):
    path = small_job.write_csv(tmp_path / "train.csv", small_job.table(20))
    with pytest.raises(
        ConfigError, match=r"data_config\.streaming reads Parquet by row groups\. Received: other files"
    ):
        small_job.train(small_job.pipeline(path, data={"streaming": True}), tmp_path / "run")


def system(root, cgroup, limits, statm="100 50 40 5 0 70 0"):
    """A tree of the files that the system tells with."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/statm").write_text(statm)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "3000000"}, 3_000_000),
        ("0::/a/b\n", {"memory.max": "2000000"}, 2_000_000),
        ("5:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "1000000"}, 1_000_000),
        ("5:cpu:/x\n", {"cpu/x/memory.limit_in_bytes": "1000000"}, None),
        ("0::/a\n", {"a/memory.max": "max"}, None),
    ],
)
def test_memory_of_a_container(tmp_path, cgroup, limits, expected):
    assert available_memory(system(tmp_path, cgroup, limits)) == (expected or available_memory(tmp_path / "nowhere"))


def test_memory_under_ulimit(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    bounds = {resource.RLIMIT_DATA: 1 << 20}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (bounds.get(kind, resource.RLIM_INFINITY), -1))
    page = resource.getpagesize()
    assert available_memory(system(tmp_path, "", {})) == (1 << 20) - 70 * page
    bounds = {resource.RLIMIT_AS: 1 << 20}
    assert available_memory(tmp_path) == (1 << 20) - 100 * page
    bounds = {resource.RLIMIT_AS: 1000}
    assert available_memory(tmp_path) == 0
