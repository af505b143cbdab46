"""Values that look like passwords: which keys and strings are masked, and which are not."""

from __future__ import annotations

import pytest

from ductaflow.project.secrets import masked, secrets_in


@pytest.mark.parametrize(
    "key",
    [
        *(
            "pwd",
            "PWD",
            "db_pwd",
            "dbpwd",
            "auth",
            "AUTH",
            "basicAuth",
            "http-auth",
            "auth_token",
            "authToken",
        ),
        *(
            "my-pass",
            "my_pass",
            "dbPass",
            "DB_PASS",
            "pass",
            "pw",
            "user_pw",
            "passcode",
            "creds",
            "AWSCreds",
        ),
        *("apikey", "api_key", "API-KEY", "apiKey", "x api key", "token", "refreshToken", "tokens", "bearer"),
        *("password", "PassWord", "passwd", "passphrase", "secret", "client_secret", "credentials", "oauth"),
        *("authorization", "Authorisation", "access_key", "accountKey", "private_key", "ssh-key"),
    ],
)
def test_values_of_keys_that_name_a_secret_are_masked(key: str) -> None:
    """At any depth, whether words or numbers; a switch or nothing is no secret."""
    assert {"a": [{key: "***"}]} == masked({"a": [{key: "geheim"}]})
    assert {key: None} == masked({key: None})
    assert {key: True} == masked({key: True})
    assert ["geheim"] == list(secrets_in({"a": [{key: "geheim"}]}).values())


@pytest.mark.parametrize(
    "key",
    [
        *("author", "authors", "authority", "co_author", "passengers", "passenger_km", "bypass", "by_pass"),
        *("compass", "passage", "surpass", "passive", "passport_office", "low_pass", "highPass", "band-pass"),
        *("pass_rate", "passRate", "first_pass", "pass_count", "auth_method", "authType", "auth_url"),
        *("tokenizer", "tokenise", "max_tokens", "keys", "key", "keyword", "primary_key", "pwr", "power"),
        *("pawn", "spawn", "crew", "authentic", "pass_through", "monkey", "public_key"),
    ],
)
def test_other_keys_are_no_secrets(key: str) -> None:
    """Words that only look like it, and numbers of tokens."""
    assert {key: 5} == masked({key: 5})
    if "token" not in key:
        assert {key: "text"} == masked({key: "text"})
    assert {} == secrets_in({key: 5})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://u:pw@h/db", "postgres://u:***@h/db"),
        ("postgresql+psycopg2://u:p@ss:w@h:5432/db", "postgresql+psycopg2://u:***@h:5432/db"),
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("postgres://u:p/w@h/db", "postgres://u:***@h/db"),
        ("from ftp://u:pw@h/x to s3://k:s@b", "from ftp://u:***@h/x to s3://k:***@b"),
        ("https://ghp_123@github.com/x", "https://***@github.com/x"),
        ("HTTPS://u:pw@h/", "HTTPS://u:***@h/"),
        ("https://h/x?token=abc&n=5", "https://h/x?token=***&n=5"),
        ("https://h/x?sig=a%2Fb&se=1", "https://h/x?sig=***&se=1"),
        ("Server=db;User=u;Pwd=geheim;", "Server=db;User=u;Pwd=***;"),
        ("host=db password=geheim user=u", "host=db password=*** user=u"),
        ("AccountKey=abc==;x", "AccountKey=***;x"),
    ],
)
def test_passwords_in_strings_are_masked(text: str, shown: str) -> None:
    """What else a URL or a connection string says is shown; another password is another secret."""
    assert {"url": [shown]} == masked({"url": [text]})
    assert {"url[0]": text} == secrets_in({"url": [text]})


@pytest.mark.parametrize(
    "text",
    [
        *(
            "https://h:8080/a@b",
            "ssh://git@github.com/x",
            "git@github.com:x/y.git",
            "a:b@c",
            "http://h/x?n=5",
        ),
        *(
            "file:///a:b@c",
            "https://h/x?author=me",
            "12:30@noon",
            "mailto:me@h",
            "x=1;y=2",
            "https://h/@user",
        ),
    ],
)
def test_other_strings_are_shown(text: str) -> None:
    """Ports, names of users and paths are no passwords."""
    assert {"url": text} == masked({"url": text})
    assert {} == secrets_in({"url": text})
