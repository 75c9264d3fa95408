"""A short chat as the `openai` client 2.x sends it: the head that real requests have."""

from typing import Final

MODEL: Final = "m"
BODY: Final = b'{"messages":[{"role":"user","content":"Say hello."}],"model":"m","stream":false}'
FIELDS: Final = {
    "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive", "Accept": "application/json",
    "Content-Type": "application/json", "User-Agent": "OpenAI/Python 2.8.1", "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "2.8.1", "X-Stainless-OS": "Linux", "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython", "X-Stainless-Runtime-Version": "3.11.7", "X-Stainless-Async": "false",
    "Authorization": "Bearer sk-0123456789abcdef0123456789abcdef0123456789abcdef", "X-Stainless-Retry-Count": "0",
    "X-Stainless-Read-Timeout": "600",
}  # fmt: skip


def request() -> bytes:
    """Head and body, as they go over the wire."""
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: 127.0.0.1:8080"]
    lines += [f"{name}: {value}" for name, value in FIELDS.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(BODY)}", "", ""]).encode() + BODY


def wrk_script() -> str:
    """The same for wrk, which adds the host and the length."""
    fields = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in FIELDS.items())
    return f"wrk.method = 'POST'\nwrk.body = '{BODY.decode()}'\n{fields}"
