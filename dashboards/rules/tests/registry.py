"""What happens in clusters, and exactly which alerts then fire: all of them, with their places, and no other.

A scenario is a function that returns a `World` and what is expected: minute by minute the firing alerts as text, `Name
label=value ...`, and perhaps recorded values. Each is run without and with a label `cluster`. `@covered` names alerts that
would be true, too, and are not told because something wider is.
"""

SCENARIOS = {}
COVERED = {}


def scenario(function):
    """Registers a scenario; its name is a claim."""
    SCENARIOS[function.__name__] = function
    return function


def covered(*alerts):
    """Alerts that a wider one covers in this scenario."""
    def register(function):
        COVERED[function.__name__] = [f"Podsonar{alert}" for alert in alerts]
        return function
    return register
