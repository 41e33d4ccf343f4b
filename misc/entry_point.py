"""What all entry points and commands do before and around their main function."""

import os
import sys

# The native libraries' start-up messages would bury ours; must be set before they are loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

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

    # Every message of ours is meant for the user; absl's prefix with time and process is not.
    logging.use_python_logging(quiet=True)
    app.run(guarded)


def _asks_for_help(argv):
    return any(argument.lstrip("-").startswith("help") for argument in argv[1:])


def _fail(message):
    sys.exit(f"error: {message}")
