"""The lines that `ProgbarLogger` prints, on a pipe and on a terminal."""

import os
import re
from contextlib import contextmanager, redirect_stdout, suppress

from yolo_jax.model.callbacks import (
    ProgbarLogger,
)


def fit_printing(verbose, epochs=2, pace=1.0):
    bar = ProgbarLogger()
    bar.pace = pace
    bar.set_params({"epochs": epochs, "steps": 10, "verbose": verbose})
    bar.on_train_begin()
    for epoch in range(epochs):
        bar.on_epoch_begin(epoch)
        for batch in range(10):
            bar.on_train_batch_end(batch, {"batch": batch, "size": 4, "loss": 9.0})
        bar.on_test_begin()
        bar.on_test_batch_end(0, {})
        bar.on_test_end()
        bar.on_epoch_end(epoch, {"loss": 1.21111, "val_loss": 0.00012})
    bar.close()


def test_on_a_pipe_an_epoch_is_one_line(capsys):
    values = r" - loss: 1\.2111 - val_loss: 1\.2000e-04"
    fit_printing(1)
    out = capsys.readouterr().out
    assert "\r" not in out
    assert re.fullmatch(
        rf"Epoch 1/2 - 0s - \d+\.\d images/s{values}\nEpoch 2/2 - 0s - \d+\.\d images/s{values}\n",
        out,
    )
    fit_printing(2)
    out = capsys.readouterr().out
    assert re.fullmatch(rf"Epoch 1/2 - 0s{values}\nEpoch 2/2 - 0s{values}\n", out)
    fit_printing(0)
    assert capsys.readouterr().out == ""
    fit_printing(3)
    assert capsys.readouterr().out == "Epoch 1/2\nEpoch 2/2\n"


@contextmanager
def terminal(printed):
    """Makes a terminal of the standard output, and notes what arrives there."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as file, redirect_stdout(file):
        yield
    found = b""
    # A terminal whose other end is closed gives what is left, piece by piece, and then an error.
    with suppress(OSError):
        while piece := os.read(master, 10_000):
            found += piece
    os.close(master)
    printed.append(found.decode().replace("\r\n", "\n"))


def test_on_a_terminal_the_lines_are_keras_s():
    printed = []
    with terminal(printed):
        fit_printing(1, epochs=1, pace=0.0)
    title, drawn, nothing = printed[0].split("\n")
    assert (title, nothing) == ("Epoch 1/1", "")
    frames = drawn.split("\r")[1:]
    assert len(frames) == 11
    assert re.match(
        r" 4/10 \[===========>\.{18}\] - ETA: 0s - \d+\.\d images/s - loss: 9", frames[3]
    )
    assert re.fullmatch(
        r"10/10 \[={30}\] - 0s \d+(ms|us)/step - \d+\.\d images/s - loss: 1\.2111"
        r" - val_loss: 1\.2000e-04 *",
        frames[-1],
    )
    with terminal(printed):
        fit_printing(2, epochs=1)
    assert printed[1] == "Epoch 1/1\n - 0s - loss: 1.2111 - val_loss: 1.2000e-04\n"


def test_evaluate_shows_a_bar_without_values(capsys):
    bar = ProgbarLogger()
    bar.set_params({"steps": 3, "verbose": 1, "epochs": 1})
    bar.on_test_begin()
    for batch in range(3):
        bar.on_test_batch_end(batch, {"loss": 1.0})
    bar.on_test_end()
    assert re.fullmatch(r"3/3 \[={30}\] - 0s \d+(ms|us)/step\n", capsys.readouterr().out)
    bar.set_params({"steps": None, "verbose": 1, "epochs": 1})
    bar.on_predict_begin()
    bar.on_predict_batch_end(0, {})
    bar.on_predict_end()
    assert re.fullmatch(r" +1/Unknown - 0s .*\n", capsys.readouterr().out)
