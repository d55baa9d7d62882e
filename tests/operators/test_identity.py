"""Identity (S12): names that depend on what they name and on nothing else."""

import base64
import itertools
import re
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from operators.identity import alert_id, incident_id
from tests import strategies  # noqa: F401  # loads the profile

text = st.text(max_size=4)
episodes = st.tuples(text, text, text, st.integers(0, 2**53))
incidents = st.sampled_from(["inc_a", "inc_b"])
kinds = st.sampled_from(["opened", "reopened", "resolved", "blast_radius_expanded"])
messages = st.tuples(incidents, kinds, st.integers(0, 99), st.none() | text)


def test_an_incidents_id_is_a_prefix_and_128_bits_in_lower_case_base32() -> None:
    """Ids are pasted into shells, URLs and chats: nothing in them may need quoting."""
    id = incident_id("w", "r", "g", 1)
    assert re.fullmatch("inc_[a-z2-7]{26}", id)
    assert len(base64.b32decode(id[4:].upper() + "======")) == 16


def test_an_alerts_id_says_what_it_is_about() -> None:
    """A receiver that sees it twice can tell a person what was repeated."""
    assert alert_id("inc_x", "opened", 0, None) == "inc_x.opened.0"
    assert alert_id("inc_x", "blast_radius_expanded", 2, "acme") == "inc_x.blast_radius_expanded.2.acme"


@given(episodes, episodes)
def test_different_episodes_have_different_ids(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    """Else two customers' incidents would overwrite each other in the store."""
    assert (incident_id(*one) == incident_id(*other)) == (one == other)


@given(messages, messages)
def test_different_alerts_have_different_ids(
    one: tuple[str, str, int, str | None], other: tuple[str, str, int, str | None]
) -> None:
    """Else an alert would be taken for sent when it was not."""
    assert (alert_id(*one) == alert_id(*other)) == (one == other)


def test_parts_do_not_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") are different keys, whatever characters they hold."""
    parts = ["", "a", "ab", "b", ":", "a:b", "\x00", "é"]
    keys = list(itertools.product(parts, repeat=3))
    assert len({incident_id(w, r, g, 0) for w, r, g in keys}) == len(keys)
    alerts = [("inc_a", "opened", cycle, tenant) for cycle in (0, 1, 11) for tenant in (None, *parts, "1", "1.")]
    assert len({alert_id(*key) for key in alerts}) == len(alerts)


def test_an_id_is_the_same_in_every_process() -> None:
    """Two replays on two machines name an incident alike: no salted hash is in it."""
    code = "from operators.identity import incident_id; print(incident_id('w', 'r', 'g', 1_700_000_000_000_000))"
    ids = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert ids == {incident_id("w", "r", "g", 1_700_000_000_000_000) + "\n"}
