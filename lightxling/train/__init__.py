"""Training: `from lightxling.train import train`."""

TYPE_CHECKING = False  # type checkers take it for true, see `lightxling`
if TYPE_CHECKING:
    from lightxling.train.loop import train as train


def __getattr__(name: str) -> object:
    """`train`, imported when it is first asked for, and jax with it."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lightxling.base.extras import needed_by

    with needed_by("training"):
        from lightxling.train.loop import train

    return train
