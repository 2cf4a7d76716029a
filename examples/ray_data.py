"""Score a Parquet data set on several processes with Ray Data, and lose one of them on the way.

python examples/ray_data.py [--rows 2048] [--workers 2] [--device cpu] [--lose-a-worker]

Needs `pip install "ray[data]"`. Each worker is an actor with one npu.Predictor, which loads the saved file once. Ray
gives the batches of a lost worker to another one, so that every row is scored once. See docs/scaling.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from resnet import trained_looking

BATCH = 64
SIDE = 32


def write_rows(folder: Path, rows: int, files: int = 8) -> None:
    """A data set of small pictures, with an id for each."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index, ids in enumerate(np.array_split(np.arange(rows), files)):
        pixels = generator.standard_normal(len(ids) * 3 * SIDE * SIDE, dtype=np.float32)
        pictures = pa.FixedSizeListArray.from_arrays(pa.array(pixels), 3 * SIDE * SIDE)
        pq.write_table(pa.table({"id": ids, "picture": pictures}), folder / f"{index:03}.parquet")


def save_model(path: Path) -> None:
    """With an open batch size, because the last batch of a file is smaller."""
    example = torch.randn(BATCH, 3, SIDE, SIDE)
    batch = torch.export.Dim("batch", min=1, max=BATCH)
    compiled = npu.compile(
        trained_looking(), example, device="cpu", output_names=["scores"], dynamic_shapes={"x": {0: batch}}
    )
    compiled.save(path)


class Scorer:
    """A worker: a predictor, and the columns of the data set that it reads and writes."""

    def __init__(self, model: Path, device: str, lost: Path | None = None) -> None:
        self.predict = npu.Predictor(model, device=device, threads=1)  # one thread: Ray has a worker for each core
        self.lost = lost

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        if self.lost is not None and 0 not in batch["id"] and not self.lost.exists():
            self.lost.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # as when a machine is taken away
        began = time.time()
        pictures = np.stack(batch["picture"]).reshape(-1, 3, SIDE, SIDE)
        scores = self.predict({"x": pictures})["scores"]
        facts = {"worker": os.getpid(), "began": began, "ended": time.time()}
        columns = {name: np.full(len(pictures), value) for name, value in facts.items()}
        return {"id": batch["id"], "best": scores.argmax(1), **columns}


def in_one_process(data: Path, scorer: Scorer) -> dict[int, int]:
    found: dict[int, int] = {}
    for file in sorted(data.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH):
            columns = {"id": batch["id"].to_numpy(), "picture": batch["picture"].to_numpy(zero_copy_only=False)}
            scored = scorer(columns)
            found.update(zip(scored["id"].tolist(), scored["best"].tolist(), strict=True))
    return found


def on_ray(data: Path, out: Path, workers: int, *arguments: Any) -> dict[int, int]:
    # A small data set would be one block, for one worker.
    rows = ray.data.read_parquet(str(data)).repartition(4 * workers)
    dataset = rows.map_batches(
        Scorer,
        fn_constructor_args=arguments,
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,  # of each; with a GPU for each worker, num_gpus=1 and device="cuda"
    )
    dataset.write_parquet(str(out))
    table = pq.read_table(out)
    ids = table["id"].to_pylist()
    print(f"{len(set(table['worker'].to_pylist()))} workers wrote {len(ids)} rows, {len(set(ids))} of them different")
    seconds = max(table["ended"].to_pylist()) - min(table["began"].to_pylist())
    print(f"{workers} workers: {len(ids) / seconds:.0f} rows a second, from the first batch to the last")
    return dict(zip(ids, table["best"].to_pylist(), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--lose-a-worker", action="store_true", help="kill one while it works")
    args = parser.parse_args()
    ray.init(num_cpus=args.workers + 1, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_rows(folder / "data", args.rows)
        save_model(folder / "model.npu")
        scorer = Scorer(folder / "model.npu", args.device)
        scorer({"id": np.arange(BATCH), "picture": np.zeros((BATCH, 3 * SIDE * SIDE), np.float32)})

        began = time.perf_counter()
        alone = in_one_process(folder / "data", scorer)
        print(f"one process: {args.rows / (time.perf_counter() - began):.0f} rows a second")

        began = time.perf_counter()
        lost = folder / "lost" if args.lose_a_worker else None
        together = on_ray(folder / "data", folder / "scored", args.workers, folder / "model.npu", args.device, lost)
        print(f"{time.perf_counter() - began:.0f} s in all, with the start of the workers")
        if lost is not None:
            print("one worker was lost" if lost.exists() else "no worker was lost")
        print("the same results" if together == alone and len(alone) == args.rows else "OTHER RESULTS")
    ray.shutdown()
    return 0 if together == alone else 1


if __name__ == "__main__":
    sys.exit(main())
