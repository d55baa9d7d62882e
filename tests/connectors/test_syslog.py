"""System logs: who did what, where, how often, and when; nothing of a line is lost."""

import json
import re
from collections import Counter

import pytest

from connectors.formats import FORMATS
from connectors.formats.log_types import rules_of
from connectors.formats.types import DecodeOptions
from connectors.mapping import load
from tests.connectors.splitting import REAL_DATA, assert_split_does_not_show

FORM = FORMATS["syslog"]
OPTIONS = DecodeOptions(year=2017)
FAILED = "Mar 27 13:06:56 web-1 sshd[1291]: Failed password for root from 192.0.2.7 port 56338 ssh2"


def decode(line: str, options: DecodeOptions = OPTIONS) -> dict[str, object]:
    (row,) = FORM.decode(line.encode() + b"\n", options).frame.to_dicts()
    return row


def error(line: str, options: DecodeOptions = OPTIONS) -> str:
    decoded = FORM.decode(line.encode() + b"\n", options)
    assert decoded.frame.is_empty()
    return str(decoded.rejects["error"].item())


def test_a_failed_password_fills_the_documented_columns() -> None:
    row = decode(FAILED)
    assert str(row["time"]) == "2017-03-27 13:06:56+00:00"
    assert (row["stream"], row["source"], row["type"], row["place"]) == ("log", "sshd", "auth_failed", "web-1")
    assert (row["value"], row["code"], row["severity"]) == (1.0, None, None)
    assert row["message"] == "Failed password for root from 192.0.2.7 port 56338 ssh2"
    assert json.loads(str(row["attributes"])) == {
        "pid": "1291",
        "method": "password",
        "user": "root",
        "client": "192.0.2.7",
        "port": "56338",
    }


def test_a_repeated_message_counts_as_often_as_it_happened() -> None:
    head, _, message = FAILED.partition("]: ")
    row = decode(f"{head}]: message repeated 5 times: [ {message}]")
    assert (row["type"], row["value"]) == ("auth_failed", 5.0)
    assert row["message"] == f"message repeated 5 times: [ {message}]"
    assert json.loads(str(row["attributes"]))["client"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("program", "message", "expected", "fields"),
    [
        (
            "sshd",
            "Failed password for invalid user pi from ::1 port 5 ssh2",
            "auth_failed",
            {"user": "pi", "client": "::1"},
        ),
        (
            "sshd",
            "Failed password for invalid user  from 192.0.2.7 port 5 ssh2",
            "auth_failed",
            {"client": "192.0.2.7"},
        ),
        (
            "sshd",
            "Accepted publickey for bob from 192.0.2.7 port 5 ssh2: RSA",
            "auth_accepted",
            {"method": "publickey"},
        ),
        ("sshd", "Failed publickey for bob from 192.0.2.7 port 5 ssh2: RSA", "auth_key_refused", {"user": "bob"}),
        ("sshd", "Invalid user a b from 192.0.2.7", "auth_invalid_user", {"user": "a b"}),
        (
            "sshd",
            "error: maximum authentication attempts exceeded for root from 192.0.2.7 port 5 ssh2",
            "auth_max_attempts",
            {"user": "root"},
        ),
        (
            "sshd",
            "pam_unix(sshd:session): session opened for user bob(uid=1) by (uid=0)",
            "session_opened",
            {"user": "bob"},
        ),
        ("CRON", "pam_unix(cron:session): session closed for user root", "session_closed", {"user": "root"}),
        ("sshd", "Connection closed by 192.0.2.7 port 5 [preauth]", "connection_closed", {"client": "192.0.2.7"}),
        ("sshd", "Connection closed by invalid user x 192.0.2.7 port 5", "connection_closed", {"user": "x"}),
        ("sudo", "   bob : TTY=a ; PWD=/ ; USER=root ; COMMAND=/bin/ls -l", "sudo_command", {"command": "/bin/ls -l"}),
        ("other", "   bob : TTY=a ; PWD=/ ; USER=root ; COMMAND=/bin/ls -l", "log", {}),
        ("useradd", "new user: name=eve, UID=1", "user_created", {"user": "eve"}),
        ("kernel", "anything", "log", {}),
    ],
)
def test_messages_become_types(program: str, message: str, expected: str, fields: dict[str, str]) -> None:
    row = decode(f"Mar  7 13:06:56 web-1 {program}[7]: {message}")
    assert (row["type"], row["source"]) == (expected, program)
    attributes = json.loads(str(row["attributes"]))
    assert {name: attributes.get(name) for name in fields} == fields
    assert row["code"] == ("invalid_user" if "for invalid user" in message else None)


def test_pams_count_of_more_failures_is_the_value() -> None:
    more = "PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=root"
    row = decode(f"Mar 27 13:06:56 web-1 sshd[1]: {more}")
    assert (row["type"], row["value"]) == ("pam_auth_failure", 5.0)


def test_headers_in_their_variants() -> None:
    row = decode("<34>Oct 11 22:14:15 mymachine su: 'su root' failed")  # the example of RFC 3164
    assert (row["severity"], row["source"], row["place"]) == ("critical", "su", "mymachine")
    row = decode("Oct 11 22:14:15 host last message repeated 2 times")
    assert (row["source"], row["message"]) == ("syslog", "last message repeated 2 times")
    row = decode("2024-03-27T13:06:56.123456+01:00 host sshd[1]: x", DecodeOptions())
    assert str(row["time"]) == "2024-03-27 12:06:56.123456+00:00"
    assert decode("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; rhost=a")["source"] == "sshd"


def test_bad_lines_say_why() -> None:
    assert error("hello").startswith("not a syslog line")
    assert error(FAILED.replace("Mar 27", "Feb 29")) == 'time: "Feb 29 13:06:56" is not a time of the year 2017'
    assert error(FAILED, DecodeOptions()) == "time: the line has no year; name it with --year"
    assert "year 2016" not in str(decode(FAILED.replace("Mar 27", "Feb 29"), DecodeOptions(year=2016)))


def test_all_lines_have_the_given_year_even_over_new_year() -> None:
    lines = f"{FAILED.replace('Mar 27', 'Dec 31')}\n{FAILED.replace('Mar 27', 'Jan  1')}\n"
    times = FORM.decode(lines.encode(), OPTIONS).frame["time"].dt.year().to_list()
    assert times == [2017, 2017]


def test_own_rules_come_first_and_columns_can_be_moved() -> None:
    text = """
    columns: {source: $.host, tenant: $.user}
    syslog:
      - {match: 'password for (?P<user>\\S+) from (?P<client>\\S+)', type: login_failed, code: bad_password}
    """
    row = decode(FAILED, DecodeOptions(year=2017, mapping=load(text, "m.yaml")))
    assert (row["source"], row["tenant"], row["type"], row["code"]) == ("web-1", "root", "login_failed", "bad_password")
    assert json.loads(str(row["attributes"])) == {"program": "sshd", "pid": "1291", "client": "192.0.2.7"}


def test_every_shipped_rule_can_be_read() -> None:
    assert len(rules_of("syslog")) > 20
    assert len(rules_of("access_log")) == 5


def test_the_result_does_not_depend_on_chunks() -> None:
    messages = ["new user: name=eve, UID=1", "anything", "Server listening on :: port 22."]
    lines = [FAILED, "", "broken", *(f"Mar 27 13:06:57 web-1 x[1]: {message}" for message in messages), "<9>" + FAILED]
    found = assert_split_does_not_show(FORM, "\n".join(lines * 3).encode(), OPTIONS)
    assert (len(found.frame), len(found.rejects), found.records) == (15, 3, 21)


@pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the repository")
def test_seven_thousand_real_lines() -> None:
    content = (REAL_DATA / "auth_log" / "auth.log").read_bytes()
    decoded = FORM.decode(content, OPTIONS)
    assert (len(decoded.frame), decoded.records, len(decoded.rejects)) == (7121, 7121, 0)
    lines = content.decode().splitlines()
    failed = [line for line in lines if "Failed password for" in line]
    rows = decoded.frame.filter(type="auth_failed")
    assert len(rows) == len(failed)
    times = [int("".join(re.findall(r"repeated (\d+) times", line)) or 1) for line in failed]
    assert rows["value"].to_list() == times
    clients = Counter(re.findall(r" from (\S+) port", "\n".join(failed)))
    assert Counter(rows["attributes"].str.json_path_match("$.client")) == clients
    assert set(decoded.frame["place"]) == {line.split()[3] for line in lines}
    assert len(decoded.frame.filter(type="session_opened")) == sum("session opened for user" in line for line in lines)
