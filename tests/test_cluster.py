"""Building on a real cluster with two workers: the same documents as on one machine, though a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpora import archive, html
from ray_cluster import ENVIRONMENT, cluster

from gpt2.corpus import BuildConfig, build, jobs
from gpt2.corpus.engine import Engine

pytest.importorskip("ray")

BUILD = """
import sys
from pathlib import Path
from gpt2.corpus import BuildConfig, build, jobs
from gpt2.corpus.engine import Engine
jobs.SMALLEST = 12_000
engine = Engine(cluster=sys.argv[3])
print(build(BuildConfig(pages=(Path(sys.argv[1]),), method="fast"), sys.argv[2], engine=engine).digest)
"""


def test_a_worker_of_a_cluster_that_is_killed_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SMALLEST", 12_000)
    pages = archive(tmp_path / "a.warc.gz", {str(i): html(f"page{i}") for i in range(200)})
    alone = build(BuildConfig(pages=(pages,), method="fast"), tmp_path / "alone", engine=Engine(workers=1))
    out = tmp_path / "out"
    with cluster() as ray:
        command = [sys.executable, "-c", BUILD, str(pages), str(out), ray.address]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT
        )
        while not list(out.glob("texts/documents-*.parquet")) and process.poll() is None:
            time.sleep(0.005)
        workers = ray.workers()
        assert len(workers) == 2 and process.poll() is None
        os.kill(workers[0], signal.SIGKILL)
        said, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    assert said.strip() == alone.digest
    theirs = {path.name: path.read_bytes() for path in alone.documents.glob("documents-*.parquet")}
    assert {
        path.name: path.read_bytes() for path in (out / "documents").glob("documents-*.parquet")
    } == theirs
