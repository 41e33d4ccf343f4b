"""What all entry points and commands do before and around their main function."""

# ruff: noqa: E402 - the order of the imports is this module's purpose
import atexit
import contextlib
import functools
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
        sys.unraisablehook = functools.partial(_stop_again, sys.unraisablehook, number)
        sys.exit(128 + number)

    _handle_signals(stop)


def _handle_signals(handler):
    """Lets a function of number and frame handle Ctrl-C and SIGTERM, unless they are ignored."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)


def _stop_again(report, number, unraisable):
    """Lets what came where exceptions are ignored, as in `__del__`, come again a moment later."""
    if not isinstance(unraisable.exc_value, SystemExit):
        return report(unraisable)
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
    main_thread = threading.main_thread().ident
    timer = threading.Timer(0.02, signal.pthread_kill, [main_thread, number])
    timer.daemon = True
    return timer.start()


def _end_at_once(number, frame):
    """Ends the program without an exception, which would only be reported while Python ends."""
    del frame
    print(f"Stopped by {signal.Signals(number).name}.", file=sys.stderr, flush=True)
    os._exit(128 + number)


_catch_signals()  # loading TensorFlow takes seconds
# What is registered first runs last: then only the libraries have to end, without Python.
atexit.register(_handle_signals, signal.SIG_IGN)


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

from misc.images import files
from misc.training import command_line, common_flags, registry, settings

FLAGS = flags.FLAGS
# Flags that decide how much memory a step takes.
SIZES = ("batch_size", "input_patch_size", "evaluation_batch_size", "tile")


def run(main, with_model=True, with_dataloader=False, for_use=True, default_weights=None):
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
        default_weights: name of trained weights for a command line that names no model; or `None`.
    """
    _catch_signals()  # again: what was loaded since may have handlers of its own
    # Names of files need not be text in the encoding of what they are printed to.
    sys.stdout.reconfigure(errors="backslashreplace")
    if command_line.asks_for(sys.argv, "version"):
        print(command_line.describe_version())
        sys.exit(0)
    selected = []
    try:
        if with_model:
            common_flags.define_selection_flags(with_dataloader)
            selected.append(registry.select(sys.argv, with_dataloader, for_use, default_weights))
    except ValueError as error:
        if command_line.asks_for(sys.argv, "help"):
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
        except (
            *(ValueError, OSError, ArithmeticError, MemoryError),
            tensorflow.errors.OpError,
        ) as error:
            message = _message(error)
            if FLAGS.verbosity > 0 or message is None:
                raise
            _fail(message)

    app.call_after_init(_set_up_logging)
    try:
        app.run(guarded, flags_parser=_or_fail(command_line.parse))
    finally:
        _handle_signals(_end_at_once)


def parse_some(*names):
    """Returns what `registry.parse_some` finds on the command line, for commands that need it."""
    return _or_fail(registry.parse_some)(sys.argv, *names)


def load_dataloader(name, package):
    """Returns the dataloader of that name, for commands that define its flags without a model."""

    def load(name):
        found = registry.load("dataloaders", name)
        if not found.__name__.startswith(f"{package}."):
            known = registry.list_names("dataloaders").items()
            fitting = ", ".join(name for name, path in known if path.startswith(f"{package}."))
            raise ValueError(f"--dataloader={name} is none of those for {package}: {fitting}.")
        return found

    return _or_fail(load)(name)


def _or_fail(parse):
    """Returns a function that parses a command line or ends the program with a message."""

    def parse_or_fail(*args):
        try:
            return parse(*args)
        except ValueError as error:
            _fail(error)

    return parse_or_fail


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


def _message(error):
    """Returns what the user is told of an error, `None` where only its trace helps."""
    if isinstance(error, tensorflow.errors.OpError):
        message = _message_from_dataset(error) or _message_of_full_disk(error)
        if message:
            return message
    if isinstance(error, MemoryError | tensorflow.errors.ResourceExhaustedError):
        return _message_of_full_memory(error)
    if isinstance(error, tensorflow.errors.OpError):
        return None
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return _without_trace(str(error))


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


def _message_of_full_disk(error):
    """Returns what a full disk made TensorFlow say, `None` if it was something else."""
    reason = files.full_disk(error)
    if reason is None:
        return None
    # {{operation}} PATH; No space left on device [Op:SaveV2]
    path = str(error).partition(f"; {reason}")[0].rpartition("}} ")[2]
    return f"{path} cannot be written: {reason}"


def _message_of_full_memory(error):
    wanted = re.search(r"(?:tensor|array) with shape ?[\[(][\d, ]*[])]", str(error))
    smaller = " or ".join(f"--{name}={FLAGS[name].value}" for name in SIZES if name in FLAGS)
    return (
        "The memory does not suffice"
        + (f" for one {wanted.group()}." if wanted else ".")
        + (f" Less than {smaller} may help." if smaller else "")
    )


def _fail(message):
    sys.exit(f"error: {message}")
