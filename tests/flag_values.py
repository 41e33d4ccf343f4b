"""Settings of runs, as the command line would give them."""

from absl import flags

from misc.training import common_flags, settings


def of(*modules, **values):
    """Returns the `Settings` of training with the flags of modules, at their defaults or `values`.

    Args:
        *modules: a model, or a dataloader behind its model.
        **values: {flag: value}.
    """

    def define():
        flags.DEFINE_integer("max_steps", 10, "")
        common_flags.define_training_flags()
        common_flags.define_seed_flag("")
        for module in modules:
            module.define_flags()

    # Flags of a place are not taken over from runs, but given here.
    return settings.of_run(define, values) | values
