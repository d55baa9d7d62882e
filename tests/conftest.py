"""Settings every test shares."""

import os

from hypothesis import HealthCheck, settings

# No deadlines: how long an example takes says more about the machine than about the code.
settings.register_profile("tocsin", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples every time, so that a red build is the change's own doing: HYPOTHESIS_PROFILE=ci.
settings.register_profile("ci", settings.get_profile("tocsin"), derandomize=True, database=None)
# For a night: HYPOTHESIS_PROFILE=thorough.
settings.register_profile("thorough", settings.get_profile("tocsin"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tocsin"))
