"""Settings of a run: the flags' defaults, overlaid by arguments.json and by the command line."""

import contextlib

from absl import flags


class Settings:
    """Values by the names of their flags: `settings.batch_size`; fixed once they are made.

    Attributes:
        given: names of the flags that the command line sets.
    """

    def __init__(self, values, given=()):
        """Takes {name: value} and the names of those that were given."""
        self._values = dict(values)
        self.given = frozenset(given)

    def __getattr__(self, name):
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"There is no flag --{name} here.") from None

    def __contains__(self, name):
        return name in self._values

    def __or__(self, values):
        return Settings(self._values | dict(values), self.given)

    def get(self, name, default=None):
        """Returns a value, or `default` in a program that has no such flag."""
        return self._values.get(name, default)

    def to_dict(self):
        """Returns {name: value}."""
        return dict(self._values)


def parsed():
    """Returns the `Settings` of the flags that were parsed, without those of libraries."""
    found = [
        flag
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        if not module.startswith(("absl", "tensorflow"))
        for flag in defined
    ]
    return Settings(
        {flag.name: flag.value for flag in found}, [flag.name for flag in found if flag.present]
    )


def of_run(define_flags, arguments):
    """Returns the `Settings` of a trained run, whatever flags this program has.

    They are the `arguments` that the run kept; flags that are newer have their defaults. A value
    that its flag does not take is a ValueError.
    """
    with fresh_flags():
        define_flags()
        take_over(arguments, flags.FLAGS)
        defaults = {name: flags.FLAGS[name].value for name in flags.FLAGS}
    return Settings(arguments | defaults)


def take_over(arguments, names):
    """Makes what a run kept the defaults of the flags of these names, but for `local` ones.

    A value that its flag does not take is a ValueError.
    """
    for name in sorted(set(names) & set(arguments)):
        if not getattr(flags.FLAGS[name], "local", False):
            try:
                flags.FLAGS.set_default(name, arguments[name])
            except (flags.Error, TypeError, AttributeError) as error:
                raise ValueError(f"The run's arguments.json is damaged: {error}") from error


def changeable(*names):
    """Says of flags just defined that they may change between a run and its continuation."""
    for name in names:
        flags.FLAGS[name].changeable = True


def local(*names, changeable=False):
    """Says of flags just defined that they are of this place: where files lie, how fast it goes.

    Whoever uses a trained model takes over all other settings from its run. `changeable` ones may
    change between a run and its continuation, too.
    """
    for name in names:
        flags.FLAGS[name].local = True
        flags.FLAGS[name].changeable = changeable


def introduced(name, before):
    """Says of a flag just defined what runs did that are older than it, as one of its values."""
    flags.FLAGS[name].before = before


def values_before():
    """Returns {flag: value} of what runs did before there were the `introduced` flags."""
    found = {name: getattr(flags.FLAGS[name], "before", None) for name in flags.FLAGS}
    return {name: value for name, value in found.items() if value is not None}


def changeable_names():
    """Returns the names of the flags that may change between a run and its continuation."""
    return {name for name in flags.FLAGS if getattr(flags.FLAGS[name], "changeable", False)}


def defined_flags(*definitions):
    """Returns the set of the names of the flags that functions such as `define_flags` define."""
    with fresh_flags():
        for define in definitions:
            define()
        return set(flags.FLAGS)


@contextlib.contextmanager
def fresh_flags():
    """Replaces the flags of this program by none inside the block, where others can be defined."""
    kept = dict(flags.FLAGS.__dict__)
    flags.FLAGS.__dict__.clear()
    flags.FLAGS.__init__()
    try:
        yield flags.FLAGS
    finally:
        flags.FLAGS.__dict__.clear()
        flags.FLAGS.__dict__.update(kept)
