"""The yardstick of the scheduler check: the solver's kernels driven by a plain loop."""


def plain_loop_seconds(setting, seed, passes, batch_size):
    """Wall seconds of `passes` passes over `setting.store` without any Dask.

    It must do the work of `MLPClassifier(setting.hidden, max_iter=passes, batch_size=batch_size,
    random_state=seed).fit(setting.store)`, step by step in the same order and from the same
    store: the solver's own map on the same row ranges (on a thread pool of as many threads
    as Dask would use), its combine over the same tree, its update. What `fit` does before and
    after the passes belongs to it too, so that the two times differ by the scheduler alone.
    """
    raise NotImplementedError("plain_loop_seconds is still to be written")
