"""SciPy's own tests that do not hold for ours, each with the reason; keys are ``Class::test`` or ``test``."""

EXCEPTIONS: dict[str, str] = {}
