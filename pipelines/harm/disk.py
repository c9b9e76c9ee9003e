"""A disk that fills during a fit: a clear error, and after space is made the same bits."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import daskalt
from daskalt.errors import StorageError
from pipelines.benchmark.tables import Table, Target
from pipelines.harm.fits import digest, network, write_rows

MEGABYTES = 64


def check_disk(options):
    """Full batches whose variables and checkpoints lie on a disk that others fill."""
    table = Table("disk", f"a scratch disk of {MEGABYTES} MB that fills during a fit")
    rows = 3_000 if options.quick else 20_000
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-") as name:
        store = write_rows(Path(name) / "rows.zarr", rows)
        for solver in ("batch-altmin", "admm", "altmin"):
            expected = digest(network(solver).fit(store))
            with small_disk(Path(name) / "disk") as disk:
                ballast = Path(disk) / "ballast"
                message = fill_during_fit(solver, store, disk, ballast)
                ballast.unlink(missing_ok=True)
                model = network(solver, checkpoint=f"{disk}/points").fit(store, resume=True)
            clear = "disk is full" in message
            same = digest(model) == expected
            table.add(
                Target("clear error, same bits", clear and same),
                solver=solver,
                error=message[:100],
                resumed_with_same_bits=same,
            )
    return table


def fill_during_fit(solver, store, disk, ballast):
    """The message of a fit whose disk fills after its second pass."""
    checkpoints = daskalt.Checkpoints(f"{disk}/points")
    save, count = daskalt.Checkpoints.save, iter(range(2))

    def save_and_fill(self, *arguments, **options):
        save(self, *arguments, **options)
        if next(count, None) is None and not ballast.exists():
            fill(ballast)

    daskalt.Checkpoints.save = save_and_fill
    try:
        network(solver, checkpoint=checkpoints).fit(store)
    except StorageError as error:
        return str(error)
    finally:
        daskalt.Checkpoints.save = save
    return "no error"


def fill(path):
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * size)
                    os.fsync(file.fileno())
            except OSError:
                continue


@contextmanager
def small_disk(folder):
    """A file system of MEGABYTES in memory, which takes the right to mount one."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"check disk: a small disk could not be mounted ({done.stderr.strip()}). Run it as "
            f"root, or by: unshare -rm {sys.executable} -m pipelines.torture --only disk"
        )
    try:
        yield str(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
