"""Text that people send us, as it may be stored: trimmed, bounded, of characters that every database takes."""

import unicodedata

from connectors.control.errors import Refused

NAME_LIMIT = 200
EXTERNAL_ID_LIMIT = 255
NOTE_LIMIT = 2_000
EMAIL_LIMIT = 254
EMAIL_KEY_LIMIT = 1024  # in Unicode's compatible form, which can be longer
_LAYOUT = str.maketrans("\n\r\t", "   ")


def clean(value: str, field: str, most: int) -> str:
    """Return `value` trimmed. Raises Refused where it is empty, longer than `most`, or has control characters."""
    return exact(value.strip(), field, most)


def exact(text: str, field: str, most: int) -> str:
    """Return `text` as it is. Raises Refused where it is blank, longer than `most`, or has control characters."""
    if not text or text.isspace():
        raise Refused(f"{field} is required.")
    if len(text) > most:
        raise Refused(f"{field} must have at most {most} characters.")
    if not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise Refused(f"{field} must not have control characters.")
    return text


def note(value: str | None) -> str | None:
    """Return what somebody wrote, of several lines perhaps, trimmed; None for nothing. Raises Refused as `clean`."""
    text = (value or "").strip()
    if text:
        exact(text.translate(_LAYOUT), "note", NOTE_LIMIT)
    return text or None


def storable(value: str) -> str:
    """Return foreign text as every database takes it: PostgreSQL has no NUL."""
    return value.replace("\0", "\ufffd")


def email(value: str) -> str:
    """Return an address trimmed. Raises Refused where it is none: one @, something before it, a domain behind it.

    More than that only a message to it can tell.
    """
    text = clean(value, "email", EMAIL_LIMIT)
    local, at, domain = text.rpartition("@")
    if not (at and local and domain) or "@" in local or any(character.isspace() for character in text):
        raise Refused("email must be an address like ada@example.com.")
    if len(email_key(text)) > EMAIL_KEY_LIMIT:
        raise Refused(f"email must have at most {EMAIL_LIMIT} characters.")
    return text


def email_key(address: str) -> str:
    """Return what two spellings of one address have in common: Unicode form and case do not count."""
    return unicodedata.normalize("NFKC", address.strip()).casefold()
