"""Settings every test shares."""

import os

from hypothesis import HealthCheck, Phase, settings

pytest_plugins = ["tests.kafka_fixtures"]

# No deadlines: how long an example takes says more about the machine than about the code.
settings.register_profile(
    "tocsin",
    deadline=None,
    max_examples=50,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
# In CI the same examples every time, so that a red build is the change's own doing: HYPOTHESIS_PROFILE=ci.
settings.register_profile("ci", settings.get_profile("tocsin"), derandomize=True, database=None)
# For a night: HYPOTHESIS_PROFILE=thorough.
settings.register_profile("thorough", settings.get_profile("tocsin"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tocsin"))
