"""Hypothesis draws the same examples in every run, and may take its time over each."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "relabel",
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("relabel")
