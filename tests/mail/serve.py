"""A real mail server on loopback. Prints its port, then one JSON document for each letter, as Python's own parser reads it.

Arguments: a certificate and a key in DER form (with them, STARTTLS and a sign-in are asked for before anything else).
Recipients whose address says `refused` are refused; those that say `later` are asked to come again, the first time.
"""

import asyncio
import base64
import email
import email.policy
import html.parser
import json
import os
import ssl
import sys
import tempfile

from aiosmtpd.smtp import SMTP, AuthResult

USER, PASSWORD = b"switchback", b"hush & hush/1"


class Text(html.parser.HTMLParser):
    """The tags, the links and the words of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data):
        self.words.append(data)


def read(envelope, session):
    """What a mail program makes of a letter."""
    letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
    text, page = letter.get_body(("plain",)), letter.get_body(("html",))
    shown = Text()
    shown.feed(page.get_content() if page else "")
    content = text.get_content().replace("\r\n", "\n") if text else None
    parts = list(letter.walk())
    faults = [fault for part in parts for fault in part.defects]
    faults += [fault for part in parts for value in part.values() for fault in getattr(value, "defects", ())]
    return {
        "from": envelope.mail_from,
        "to": envelope.rcpt_tos,
        "is_encrypted": session.ssl is not None,
        "is_signed_in": session.authenticated,
        "kind": letter.get_content_type(),
        "headers": {name.lower(): str(value) for name, value in letter.items()},
        "references": str(letter["references"] or "").split(),
        "text": content,
        "tags": shown.tags,
        "links": shown.links,
        "words": "".join(shown.words).replace("\r\n", "\n"),
        "line_max": max(len(line) for line in envelope.content.split(b"\r\n")),
        "faults": [repr(fault) for fault in faults],
    }


class Keeper:
    """Takes letters, or refuses them."""

    def __init__(self):
        self.asked = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if "refused" in address:
            return "550 5.1.1 no such mailbox"
        if "later" in address and address not in self.asked:
            self.asked.add(address)
            return "451 4.7.1 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps(read(envelope, session)), flush=True)
        return "250 taken"


def context(certificate, key):
    """For TLS; Python wants PEM files."""
    with open(certificate, "rb") as file:
        pem = ssl.DER_cert_to_PEM_cert(file.read())
    with open(key, "rb") as file:
        secret = base64.encodebytes(file.read()).decode()
    pem += f"-----BEGIN PRIVATE KEY-----\n{secret}-----END PRIVATE KEY-----\n"
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(file.name)
        return made


def sign_in(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (USER, PASSWORD), handled=False)


async def main():
    keeper, more = Keeper(), {}
    if len(sys.argv) == 3:
        more = {
            "tls_context": context(*sys.argv[1:]), "require_starttls": True,
            "authenticator": sign_in, "auth_required": True,
        }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(keeper, loop=loop, **more), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends when whoever started it does.
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
