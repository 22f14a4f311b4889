"""A program's side of Holdfast: the job that a worker gave it, its progress and its checkpoints.

::

    import holdfast

    job = holdfast.job()
    state = load(job.checkpoint_dir) if job.resumed else start(job.input_dir, job.params)
    while not state.finished:
        state.advance()
        job.progress(state.step, state.steps)
        if job.checkpoint_due() or job.should_stop:
            with job.checkpoint(step=state.step) as directory:
                save(state, directory)
        if job.should_stop:
            job.leave()
    write(state.result, job.output_dir)

Standard library only, Python 3.8 or later. The worker puts the folder of this package on PYTHONPATH, so a program needs
nothing installed. Without a worker, the same program works in the current folder (`input/`, `checkpoint/`, `output/`,
`params.json`), for debugging.

Programs in other languages exchange files with the worker in $HOLDFAST_CONTROL_DIR. Write each one elsewhere on the
same file system and rename it into place, so that a reader never sees half of it:

- `progress`: `{"done": 7, "total": 100}`;
- `announced/7.json`: `{"step": 70}`, and then `announced/7/`: a directory that holds a whole checkpoint. Numbers rise.
- `save-requested`: created by the worker when it wants a checkpoint soon. Remove it after saving.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing, which would cost every command more than this whole package
if TYPE_CHECKING:
    from holdfast._job import DEFAULT_SAVING_INTERVAL_S, SAVED_RUN_ME_AGAIN, Job, job

__all__ = ["DEFAULT_SAVING_INTERVAL_S", "SAVED_RUN_ME_AGAIN", "Job", "job"]


def __getattr__(name: str) -> object:
    """Import what a program uses only when it uses it: the `holdfast` command imports this package too."""
    if name not in __all__:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    from holdfast import _job

    return getattr(_job, name)


def __dir__() -> list[str]:
    return sorted(__all__)
