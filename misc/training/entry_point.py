"""What all entry points and commands do before and around their main function."""

# ruff: noqa: E402 - the order of the imports is this module's purpose
import atexit
import contextlib
import logging as python_logging
import os
import re
import signal
import sys
import threading


def _catch_signals():
    """Lets Ctrl-C and SIGTERM end the program as an error does: cleaned up, with one line."""
    stopping = []

    def stop(number, frame):
        del frame
        signal.signal(number, signal.SIG_DFL)  # the second one of a kind ends it at once
        if stopping:
            return  # a terminal's Ctrl-C may come with the SIGTERM of a parent process
        stopping.append(number)
        # At the end: what is written now may go nowhere, or into the middle of a line.
        atexit.register(print, f"Stopped by {signal.Signals(number).name}.", file=sys.stderr)
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, stop)


_catch_signals()  # loading TensorFlow takes seconds


@contextlib.contextmanager
def _native_messages_hidden():
    # The native libraries write start-up notes to the file descriptor, whatever the log level is.
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# What TensorFlow logs later, also as errors, is about its own optimizations and missing drivers;
# real errors are exceptions. Set the variable to 0 to see everything.
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
    with _native_messages_hidden():
        import tensorflow

import tensorflow
from absl import app, flags, logging

from misc.training import common_flags, registry, settings

FLAGS = flags.FLAGS


def run(main, with_model=True, with_dataloader=False, for_use=True):
    """Parses the command line, runs `main(settings, selection)` and exits with its status.

    Errors that the user can mend (a wrong flag, file or value) are printed as one message; with
    --verbosity=1 they come with the stack trace.

    Args:
        main: function of the `Settings` of this program and, with a model, of the
            `registry.Selection`; returns the exit status.
        with_model: whether the command works on a model: defines --model and its flags.
        with_dataloader: whether it reads data through a dataloader module.
        for_use: whether a model is restored to be used: the settings of the run that trained it
            then become the defaults of the flags of model and dataloader.
    """
    _catch_signals()  # again: what was loaded since may have handlers of its own
    selected = []
    try:
        if with_model:
            common_flags.define_selection_flags(with_dataloader)
            selected.append(registry.select(sys.argv, with_dataloader, for_use))
    except ValueError as error:
        if _asks_for_help(sys.argv):
            known = "\n  ".join(registry.list_names("models"))
            print(f"Models (--model=NAME --helpfull shows the flags of one):\n  {known}\n")
        else:
            _fail(error)

    def guarded(argv):
        if len(argv) > 1:
            _fail(f"Arguments that are no flags: {' '.join(argv[1:])}")
        if "cuda_device" in FLAGS and FLAGS.cuda_device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = FLAGS.cuda_device
        try:
            return main(settings.parsed(), *selected)
        except (ValueError, OSError, ArithmeticError) as error:
            if FLAGS.verbosity > 0:
                raise
            _fail(_without_trace(str(error)))
        except tensorflow.errors.InvalidArgumentError as error:
            message = _message_from_dataset(error)
            if FLAGS.verbosity > 0 or message is None:
                raise
            _fail(message)

    app.call_after_init(_set_up_logging)
    app.run(guarded)


def _set_up_logging():
    """Shows our own messages as plain lines, and only the warnings of libraries."""
    python_logging.getLogger("tensorflow").setLevel("WARNING")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    handler.addFilter(
        lambda record: (
            record.levelno >= python_logging.WARNING
            or not any(name in record.pathname for name in ("tensorflow", "keras"))
        )
    )


def _without_trace(message):
    """Returns the message of an error inside a tf.function without the places in the code."""
    if not message.startswith("in user code:"):
        return message
    *_, last = re.split(r"\n    \w*(?:Error|Exception): ", message)
    return last.strip().replace("\n    ", "\n")


def _message_from_dataset(error):
    """Returns what our code inside a tf.data pipeline raised, `None` if it was something else."""
    # TensorFlow wraps it in the names of its operations and a stack trace; it ends the trace.
    found = re.findall(
        r"^(?:ValueError|OSError|FileNotFoundError): (.+?)(?:\n\n|\Z)", str(error), re.M | re.S
    )
    return found[-1] if found else None


def _asks_for_help(argv):
    return any(argument.lstrip("-").startswith("help") for argument in argv[1:])


def _fail(message):
    sys.exit(f"error: {message}")
