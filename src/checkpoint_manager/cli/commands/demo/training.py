"""Train a classifier of handwritten digits, epoch by epoch; each epoch is a version, and the best one has a tag.

The weights are arrays, saved as they are, with the state of the random numbers: a training that was killed goes on as if it had
never been. When it is over, the best version is restored, whatever came after it.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from checkpoint_manager import CheckpointManager

cm = CheckpointManager()  # the store that CHECKPOINT_MANAGER_STORE names
EPOCHS = 12
CRASHES = "--crash" in sys.argv


def main() -> None:
    """Train, go on where a killed training was, and restore the best version."""
    images, digits = load_digits(return_X_y=True)
    seen, unseen, seen_digits, unseen_digits = train_test_split(images / 16, digits, random_state=0)
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.5, random_state=0)
    random, first, best, best_epoch = np.random.default_rng(0), 1, 0.0, 0

    if cm.has_checkpoint("model"):
        newest = cm.get_checkpoint("model")
        first = newest.version.metadata["epoch"] + 1
        best, best_epoch = newest.version.metadata["best"], newest.version.metadata["best_epoch"]
        if best_epoch == first - 1:  # perhaps it was killed before it set the tag
            cm.tag("model", newest.version.number, "best", force=True)
        model.partial_fit(seen[:1], seen_digits[:1], classes=np.unique(digits))  # gives the weights their places
        model.coef_, model.intercept_, model.t_ = (newest.data[name] for name in ("coef", "intercept", "steps"))
        random.bit_generator.state = newest.data["random"]
        print(f"  goes on    with epoch {first}, from version {newest.version.number}", flush=True)

    for epoch in range(first, EPOCHS + 1):
        order = random.permutation(len(seen))
        model.partial_fit(seen[order], seen_digits[order], classes=np.unique(digits))
        accuracy = float(model.score(unseen, unseen_digits))
        if accuracy > best:
            best, best_epoch = accuracy, epoch
        weights = {"coef": model.coef_, "intercept": model.intercept_, "steps": model.t_}
        version = cm.save_checkpoint(
            "model",
            {**weights, "random": random.bit_generator.state},
            metadata={"epoch": epoch, "accuracy": accuracy, "best": best, "best_epoch": best_epoch},
        )
        if epoch == best_epoch:
            cm.tag("model", version.number, "best", force=True)
        print(f"  epoch {epoch:>2}   {accuracy:.1%} right{'  the best so far' if epoch == best_epoch else ''}", flush=True)
        if CRASHES and epoch == EPOCHS // 2:
            print("  the machine is taken away", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    restored = cm.restore_checkpoint("model", "best")
    data = cm.load_checkpoint("model")
    model.coef_, model.intercept_ = data["coef"], data["intercept"]
    again = float(model.score(unseen, unseen_digits))
    print(f"  restored   version {restored.restored_from} as version {restored.number}, with weights of {data['coef'].shape}")
    print(f"  measured   {again:.1%} right, {'as when it was saved' if again == best else 'NOT AS IT WAS SAVED'}")


if __name__ == "__main__":
    main()
