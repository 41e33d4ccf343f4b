"""What all entry points and commands do before and around their main function."""

import contextlib
import logging as python_logging
import os
import sys


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
if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _native_messages_hidden():
        import tensorflow  # noqa: F401

from absl import app, flags, logging

from misc import common_flags, distribution, zoo

FLAGS = flags.FLAGS


def run(main, with_model=True, with_dataloader=False, defaults=None):
    """Parses the command line, runs `main(selection)` and exits with its status.

    Errors that the user can mend (a wrong flag, file or value) are printed as one message; with
    --verbosity=1 they come with the stack trace.

    Args:
        main: function of the `zoo.Selection` (`None` without model) that returns an exit status.
        with_model: whether the command works on a model: defines --model and its flags.
        with_dataloader: whether it reads data through a dataloader module.
        defaults: {flag: value} for flags that the model's module defines with other defaults.
    """
    selection = None
    try:
        if with_model:
            common_flags.define_selection_flags(with_dataloader)
            selection = zoo.select(sys.argv, with_dataloader)
            for name, value in (defaults or {}).items():
                if name in FLAGS:
                    FLAGS.set_default(name, value)
    except ValueError as error:
        if _asks_for_help(sys.argv):
            known = "\n  ".join(zoo.list_names("models"))
            print(f"Models (--model=NAME --helpfull shows the flags of one):\n  {known}\n")
        else:
            _fail(error)

    def guarded(argv):
        if len(argv) > 1:
            _fail(f"Arguments that are no flags: {' '.join(argv[1:])}")
        if "cuda_device" in FLAGS:
            distribution.select_devices(FLAGS.cuda_device)
        try:
            return main(selection)
        except (ValueError, OSError, ArithmeticError) as error:
            if FLAGS.verbosity > 0:
                raise
            _fail(error)

    app.call_after_init(_set_up_logging)
    app.run(guarded)


def _set_up_logging():
    """Shows our own messages as plain lines, and only the warnings of libraries."""
    logging.set_verbosity(max(FLAGS.verbosity, logging.INFO))
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    handler.addFilter(
        lambda record: record.levelno >= python_logging.WARNING
        or not any(name in record.pathname for name in ("tensorflow", "keras"))
    )


def _asks_for_help(argv):
    return any(argument.lstrip("-").startswith("help") for argument in argv[1:])


def _fail(message):
    sys.exit(f"error: {message}")
