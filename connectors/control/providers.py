"""What each kind of channel needs to know. A new one is one line in PROVIDERS.

Slack and Teams take messages at a webhook's URL, PagerDuty a routing key, Opsgenie an API key.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connectors.control.errors import Refused

_KEY = re.compile(r"[A-Za-z0-9_\-]{8,256}")
_REGIONS = ("us", "eu")

# Says why a value will not do, as the end of a sentence that begins with its name; None where it will.
Check = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a channel. url: a webhook's address, checked as such. secret: shown only by its end."""

    check: Check
    required: bool = True
    url: bool = False
    secret: bool = True


def _key(value: str) -> str | None:
    return None if _KEY.fullmatch(value) else "must be 8 to 256 letters, digits, - or _"


def _region(value: str) -> str | None:
    return None if value in _REGIONS else "must be us or eu"


def _any(_value: str) -> str | None:
    return None


_WEBHOOK = {"webhookUrl": Setting(_any, url=True)}

PROVIDERS: Mapping[str, Mapping[str, Setting]] = {
    "slack": _WEBHOOK,
    "pagerduty": {"routingKey": Setting(_key)},
    "opsgenie": {"apiKey": Setting(_key), "region": Setting(_region, required=False, secret=False)},
    "teams": _WEBHOOK,
}


def settings(provider: str) -> Mapping[str, Setting]:
    """Return the provider's settings. Raises Refused for an unknown one."""
    found = PROVIDERS.get(provider)
    if found is None:
        raise Refused(f"provider must be one of {', '.join(PROVIDERS)}.")
    return found


def check(provider: str, config: Mapping[str, object]) -> dict[str, str]:
    """Return the configuration, trimmed. Raises Refused with a sentence that names the field, never its value.

    URLs are checked for what they are by `addresses.refusal`, which also has to know what their hosts resolve to.
    """
    known = settings(provider)
    strange = sorted(set(config) - set(known))
    if strange:
        raise Refused(f"config of {provider} may have {', '.join(known)} and nothing else.")
    checked: dict[str, str] = {}
    for name, setting in known.items():
        value = config.get(name)
        if value is None or value == "":
            if setting.required:
                raise Refused(f"config.{name} is required.")
            continue
        if not isinstance(value, str):
            raise Refused(f"config.{name} must be text.")
        problem = setting.check(value.strip())
        if problem is not None:
            raise Refused(f"config.{name} {problem}.")
        checked[name] = value.strip()
    return checked


def redact(provider: str, config: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration as it may be shown: enough to tell which one it is, not to use it."""
    known = settings(provider)
    return {name: _redacted(known[name], value) for name, value in config.items() if name in known}


def _redacted(setting: Setting, value: str) -> str:
    if not setting.secret:
        return value
    if setting.url:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}/***"
    return f"***{value[-4:]}" if len(value) >= 16 else "***"
